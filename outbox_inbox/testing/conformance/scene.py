"""What the cases of the suite do and check: turns of the movers, rows, and the death of a process."""

import gc
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from outbox_inbox import Envelope
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    OutboxState,
    Partition,
    QuarantinedMessage,
    Queue,
    QueueLayout,
)
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.testing import movers
from outbox_inbox.testing.movers import Crash, come_due
from outbox_inbox.transports import Transport, forget_transports, transport

from .effects import effects
from .publisher.contracts import Said

PUBLISHER = "conformance_publisher"
SUBSCRIBER = "conformance_subscriber"
BYSTANDER = "conformance_bystander"
SUBSCRIBERS = (SUBSCRIBER, BYSTANDER)
LABELS = (PUBLISHER, *SUBSCRIBERS)
APPS = tuple(f"outbox_inbox.testing.conformance.{label.partition('_')[2]}" for label in LABELS)

_PATIENCE = 50  # rounds in a row in which nothing moves and a transport cannot be reached


def record_numbers(*numbers: int, topic: str = "a", text: str = "", **terms: Any) -> list[Envelope]:
    """Record a `Said` event of a topic for each number, in one transaction."""
    events = [Said(topic=topic, number=number, text=text) for number in numbers]
    return movers.record_events(*events, **terms)


def publisher() -> Context:
    """Return the publishing context."""
    return get_context(PUBLISHER)


def wire() -> Transport:
    """Return the transport of all three contexts, as this process has it."""
    return transport(publisher().transport)


def relay(**options: Any) -> Outcome:
    """Relay the publisher's outbox."""
    return movers.relay(PUBLISHER, **options)


def receive(label: str = SUBSCRIBER, **options: Any) -> Outcome:
    """Receive for a subscriber."""
    return movers.receive(label, **options)


def subscribe(*labels: str) -> None:
    """Receive once, so that the transport knows the subscribers from now on."""
    for label in labels or SUBSCRIBERS:
        receive(label)


def publish_numbers(*numbers: int) -> None:
    """Record numbers for subscribers that the transport knows, and relay them."""
    subscribe()
    record_numbers(*numbers)
    relay()


def check_all_after(last: int) -> None:
    """Record the last number and deliver all: each subscriber has handled 1 to it, once, in order."""
    record_numbers(last)
    deliver_all()
    assert heard() == heard(BYSTANDER) == list(range(1, last + 1))


def deliver_all(*labels: str) -> None:
    """Move every message to its destination, whatever backs off; fail if one cannot be moved.

    The first attempt after an outage may fail on a connection that is broken unnoticed.
    """
    moved, tries = True, 0
    while moved or tries:
        come_due()
        outcome, unreachable = _take_turns(labels or SUBSCRIBERS)
        moved = outcome.steps > 0
        tries = tries + 1 if unreachable and not moved else 0
        assert tries < _PATIENCE, f"the transport cannot be reached: {unreachable}"


def _take_turns(labels: Iterable[str]) -> tuple[Outcome, str]:
    outcome = relay() + movers.dispatch(PUBLISHER)
    unreachable = outage(Queue.OUTBOX, PUBLISHER)
    for label in labels:
        try:
            outcome += receive(label)
        except TransportUnavailable as error:
            unreachable = str(error)
        outcome += movers.dispatch(label)
    return outcome, unreachable


def outage(queue: Queue, label: str) -> str:
    """Return the error for which a partition of a queue backs off; empty if none does."""
    rows = Partition.objects.using(get_context(label).database).filter(context=label, queue=queue)
    return next(iter(rows.filter(retry_at__isnull=False).values_list("error", flat=True)), "")


def outbox(*fields: str) -> list[Any]:
    """Return fields of the publisher's contracts in the outbox, in order; default: the state."""
    rows = OutboxMessage.objects.using(publisher().database).filter(context=PUBLISHER)
    names = fields or ("state",)
    return list(
        rows.filter(kind="integration").order_by("id").values_list(*names, flat=len(names) == 1)
    )


def all_sent() -> bool:
    """Return whether everything in the outbox was sent, without one failed attempt."""
    return set(outbox("state", "attempts")) <= {(OutboxState.SENT, 0)}


def inbox(label: str = SUBSCRIBER, topic: str = "a") -> list[int]:
    """Return the numbers of a topic in a subscriber's inbox, in the order of their arrival."""
    rows = InboxMessage.objects.using(get_context(label).database).filter(context=label)
    found = map(json.loads, rows.order_by("id").values_list("payload", flat=True))
    return [each["number"] for each in found if each["topic"] == topic]


def heard(label: str = SUBSCRIBER, topic: str = "a") -> list[int]:
    """Return the numbers of a topic that a subscriber has handled, in the order of their commits."""
    return [each.number for each in effects if (each.label, each.topic) == (label, topic)]


def quarantined(label: str = SUBSCRIBER) -> list[str]:
    """Return why messages of a subscriber were quarantined."""
    rows = QuarantinedMessage.objects.using(get_context(label).database).filter(context=label)
    return [f"{row.reason}: {row.error}" for row in rows]


def clear_databases() -> None:
    """Delete all rows of the three contexts."""
    effects.clear()
    for label in LABELS:
        using = get_context(label).database
        DeliveryAttempt.objects.using(using).filter(delivery__context=label).delete()
        for model in (
            Delivery,
            InboxMessage,
            OutboxMessage,
            QuarantinedMessage,
            Partition,
            QueueLayout,
        ):
            model._default_manager.using(using).filter(context=label).delete()


def new_process() -> None:
    """Continue as another process would, with new transports.

    The sockets of the old ones close as at the end of a process: without a word to the server.
    """
    forget_transports()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def quick_processes() -> Iterator[None]:
    """Begin and end with a new process, and make `new_process` fast: it collects new objects only."""
    new_process()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        new_process()


@contextmanager
def crashing(point: str, die: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let the process die when it first reaches a fault point, after a call of ``die``.

    Nothing is cleaned up except by the database, which rolls back.
    """

    def strike() -> None:
        die()
        raise Crash

    with movers.crashing(), movers.striking(point, strike):
        yield
