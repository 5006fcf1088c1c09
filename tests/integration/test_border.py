"""Small functions on both sides of a border, any of which may fail: the order of a key is kept.

The farm publishes, the market subscribes. Each event and each contract has a function of its own. A
step that an operator discards is left out of what follows from it, and of nothing else.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from outbox_inbox import PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    OutboxMessage,
    QuarantinedMessage,
    StoredEvent,
)
from outbox_inbox.models.base import Kind
from outbox_inbox.operations import Selection, discard, repartition, retry
from outbox_inbox.outbox.stream_relay import unsent
from tests.farm.events import Reaped, Sown, Watered
from tests.support.movers import (
    PATIENCE,
    Broken,
    dispatch,
    entries,
    put,
    receive,
    relay,
    together,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed", "border")

STEPS = (Sown, Watered, Reaped)
TRANSLATORS = {
    "outbound": ("announce_sown", "announce_watered", "announce_reaped", "announce_price"),
    "inbound": ("expect", "promise", "offer", "label"),
}
HANDLERS = ("book_sown", "audit", "book", "stock", "watch", "sell", "show", "tally", "show_offers")
FUNCTIONS = (*TRANSLATORS["outbound"], *TRANSLATORS["inbound"], *HANDLERS)
FINISHED = ("done", "discarded")
JOURNALS = (
    "ledger",
    "audit",
    "stock",
    "watch",
    "board",
    "tally",
)  # of what the handlers were given
QUICK = {
    "BACKOFF": {"first": timedelta(milliseconds=1), "maximum": timedelta(milliseconds=5)},
    "MAX_ATTEMPTS": 4,
    "BATCH_SIZE": 20,
}

Numbers = list[int]


@pytest.fixture(
    params=[
        "local",
        "memory",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbit", marks=pytest.mark.rabbitmq),
    ]
)
def carried(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The settings of each transport."""
    if request.param == "rabbit":
        yield request.getfixturevalue("broker").setting()
        QuarantinedMessage.objects.all().delete()
    elif request.param == "redis":
        url, prefix = map(request.getfixturevalue, ("redis_url", "redis_prefix"))
        yield {"TRANSPORTS": {"default": {"LOCATION": url, "OPTIONS": {"PREFIX": prefix}}}}
    else:
        yield {"TRANSPORTS": {"default": f"{request.param}://"}}


class Chance:
    """A die that several threads throw; a test that fails names its seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._lock = threading.Lock()

    def strikes(self, probability: float) -> bool:
        """Return whether something happens that happens now and then."""
        with self._lock:
            return self._random.random() < probability

    def fail(self, *_: Any) -> None:
        """Fail now and then, and sometimes for good: a part for any function."""
        if self.strikes(0.1):
            raise Broken("not now")
        if self.strikes(0.03):
            raise PermanentError("never")

    def solve(self) -> None:
        """Retry or discard each dead letter, as an operator."""
        dead = Delivery.objects.filter(state="dead", context__in=("farm", "market"))
        for row in list(dead.select_related("message")):
            chosen = Selection(
                context=row.context, id=row.message.message_id, consumer=row.consumer
            )
            if self.strikes(0.3):
                discard(chosen, "not wanted")
            else:
                retry(chosen)


class Season:
    """Fields that are worked on, each in the order of its steps, while all else goes on."""

    def __init__(self, fields: int, steps: int) -> None:
        self.keys = [f"field {number}" for number in range(fields)]
        self.steps = range(10, 10 * steps + 1, 10)
        self._left = set(self.keys)

    def grow(self, key: str) -> None:
        """Record the steps of a field, each in a transaction of its own."""
        for place, number in enumerate(self.steps):
            put(STEPS[place % len(STEPS)](order=key, number=number))
        self._left.discard(key)

    def is_over(self) -> bool:
        """Return whether everything was recorded, sent, received and handled, or discarded."""
        farm = get_context("farm")
        unfinished = Delivery.objects.exclude(state__in=FINISHED)
        # From the source to the end: what one step leaves unfinished is what the next one may get.
        return not (
            self._left
            or unsent(farm).events
            or OutboxMessage.objects.filter(context="farm").exclude(state="sent").exists()
            or unfinished.filter(context="farm").exists()
            or on_the_way()
            or unfinished.filter(context="market").exists()
        )

    def recorded(self, key: str, *classes: type) -> Numbers:
        """Return the steps of a field, all or those of some events."""
        found = [(STEPS[place % len(STEPS)], number) for place, number in enumerate(self.steps)]
        return [number for cls, number in found if cls in (classes or STEPS)]

    def published(self, key: str) -> Numbers:
        """Return what has to be on the wire, once, in this order."""
        reaped = self.recorded(key, Reaped)
        found = wanted(self.recorded(key), "farm.outbound", key)
        return [each for number in found for each in (number, number + 1)[: 1 + (number in reaped)]]

    def came(self) -> dict[str, object]:
        """Return what came of each step of the fields, by key and consumer."""
        return {
            key: {
                "arrived": arrived(key),
                "translated": arrived(key, source="market"),
                **{name: entries(name, key) for name in JOURNALS},
            }
            for key in self.keys
        }

    def wanted(self) -> dict[str, object]:
        """Return what must come of them: each step once and in order, unless it was discarded."""
        return {key: self._wanted(key) for key in self.keys}

    def _wanted(self, key: str) -> dict[str, object]:
        published = self.published(key)
        translated = wanted(published, "market.inbound", key)
        recorded, sown = self.recorded(key), self.recorded(key, Sown)
        return {
            "arrived": published,
            "translated": translated,
            "ledger": wanted(recorded, "farm.ledger", key),
            "audit": wanted(self.recorded(key, Sown, Reaped), "farm.ledger", key),
            "stock": wanted(translated, "market.stock", key),
            "watch": wanted([each for each in translated if each in sown], "market.stock", key),
            "board": wanted(published, "market.board", key),
            "tally": wanted([each for each in published if each in sown], "market.board", key),
        }


def on_the_way() -> int:
    """Return how many contracts of the farm have not arrived at the market."""
    made = (StoredEvent, OutboxMessage)  # the outbox has, of a stream, what could not be sent
    contracts = {"context": "farm", "kind": Kind.INTEGRATION}
    ids = {
        pk
        for model in made
        for pk in model.objects.filter(**contracts).values_list("message_id", flat=True)
    }
    return len(ids) - InboxMessage.objects.filter(context="market", source="farm").count()


def arrived(key: str, source: str = "farm") -> Numbers:
    """Return what is in the inbox of the market, in order: of the farm, or in its own language."""
    rows = InboxMessage.objects.filter(context="market", source=source, key=key).order_by("id")
    return [_number(payload) for payload in rows.values_list("payload", flat=True)]


def wanted(numbers: Sequence[int], consumer: str, key: str) -> Numbers:
    """Return these numbers without what was discarded for a consumer."""
    rows = Delivery.objects.filter(consumer=consumer, key=key, state="discarded")
    gone = {_number(payload) for payload in rows.values_list("message__payload", flat=True)}
    return [number for number in numbers if number not in gone]


def _number(payload: str) -> int:
    return int(json.loads(payload)["number"])


def until(condition: Callable[[], bool], *works: Callable[[], object]) -> Callable[[], None]:
    """Return what one worker does: these things again and again, until a condition holds."""

    def repeat() -> None:
        stop = threading.Event()
        timer = threading.Timer(PATIENCE * 2, stop.set)
        timer.start()
        try:
            while not condition():
                assert not stop.is_set(), "it does not come to an end"
                for work in works:
                    work()
        finally:
            timer.cancel()

    return repeat


def carry() -> None:
    """Bring messages from the farm over the border."""
    relay("farm")
    receive("market")


def handle() -> None:
    """Call the functions of both contexts."""
    dispatch("farm")
    dispatch("market")


def live_through(season: Season, chance: Chance) -> None:
    """Let workers and an operator work while the fields are."""
    receive("market")  # a broker keeps what is published from now on
    with playing(**dict.fromkeys(FUNCTIONS, chance.fail)):
        together(
            *(lambda key=key: season.grow(key) for key in season.keys),
            until(season.is_over, carry, handle),
            until(season.is_over, handle),
            until(season.is_over, handle, chance.solve),
        )


@pytest.mark.parametrize("source", ["outbox", pytest.param("stream", marks=pytest.mark.catch_up)])
def test_order_is_kept_across_the_border(settings, carried, source):
    """Whatever function fails, retried or discarded: each contract and event comes once, in order."""
    settings.OUTBOX_INBOX = {**carried, **QUICK, "CONTEXTS": {"farm": {"source": source}}}
    repartition([get_context("farm")])
    season = Season(fields=3, steps=9)
    live_through(season, Chance(1))
    assert season.came() == season.wanted()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("source", ["outbox", pytest.param("stream", marks=pytest.mark.catch_up)])
def test_order_is_kept_across_the_border_for_long(settings, carried, source, seed):
    """The same, with more fields and steps than a batch takes."""
    settings.OUTBOX_INBOX = {**carried, **QUICK, "CONTEXTS": {"farm": {"source": source}}}
    repartition([get_context("farm")])
    season = Season(fields=6, steps=60)
    live_through(season, Chance(seed))
    assert season.came() == season.wanted()
