"""Any order of work, faults, crashes and operators: once, in order, nothing lost, nothing stuck.

A ledger knows what was recorded and what was discarded. After each step every consumer must have
handled a part of it, in order and without repeats; and when the faults stop, all of it (rule O10).
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from outbox_inbox import PermanentError
from outbox_inbox.conf import faults
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Delivery, OutboxMessage, Queue
from outbox_inbox.operations import Selection, discard, pause, repartition, resume, retry
from outbox_inbox.outbox.stream_relay import unsent
from outbox_inbox.queues import run as run_module
from outbox_inbox.testing.movers import PointNotReached
from outbox_inbox.transports import Published
from tests.depot.contracts import Sold as View
from tests.depot.events import Wanted
from tests.depot.models import Pick
from tests.integration.conftest import Made, empty
from tests.shop.contracts import Sold
from tests.shop.events import Checked, Counted, Listed, Noted
from tests.shop.models import Entry
from tests.support.handling import as_list
from tests.support.movers import (
    Broken,
    Crash,
    Worker,
    come_due,
    crash,
    dispatch,
    fall_silent,
    put,
    raising,
    relay,
    run_all,
    striking,
)
from tests.support.relaying import out_of_reach
from tests.support.script import playing
from tests.support.wire import SHAKY

EXAMPLES = {"sqlite": 30, "postgresql": 10, "mysql": 3}  # as many as ten seconds allow
LABELS = ("shop", "depot")
QUEUES = (Queue.OUTBOX, Queue.INBOX)
ORDERS = ("a", "b")
# An event, and the consumers that will have handled it in the end.
REACH = {Noted: ("note",), Counted: ("count",), Listed: ("enlist",), Checked: ("pick", "watch")}
MOVERS: dict[str, Callable[[], Any]] = {
    "relay shop": lambda: relay("shop"),
    "dispatch shop": lambda: dispatch("shop"),
    "relay depot": lambda: relay("depot"),
    "dispatch depot": lambda: dispatch("depot"),
    "relay two": lambda: relay("shop", limit=2),
    "dispatch two": lambda: dispatch("shop", limit=2),
}
POINTS = sorted(point for point in faults.POINTS if not point.startswith("record."))
BETWEEN = ("relay.after_commit", "dispatch.after_commit")
PARTITIONS = [{"outbox": 1, "inbox": 1}, {"outbox": 1, "inbox": 8}, {"outbox": 2, "inbox": 3}]


def refuse(messages: Any) -> Published:
    """Take none of them."""
    return Published(sent=(), refused={each.row: MessageRefused("no") for each in messages})


def refuse_one(messages: Any) -> Published:
    """Take none but those of other keys."""
    first = messages[0]
    sent = [each.row for each in messages if each.key != first.key]
    return Published(sent=sent, refused={first.row: MessageRefused("no")})


WAYS_TO_FAIL: dict[str, Callable[..., Any]] = {
    "error": raising(Broken),
    "permanent": raising(PermanentError),
    "permanent too": raising(PermanentError),
    "roll back": lambda events: transaction.set_rollback(True),
    "die": raising(Crash),
}
WAYS_NOT_TO_SEND: dict[str, Callable[..., Published]] = {
    "refuse": refuse,
    "refuse one": refuse_one,
    "out of reach": out_of_reach,
    "error": raising(Broken),
}

consumers = st.sampled_from(["note", "count", "enlist", "pick", "watch", "announce", "want"])
# Which steps a consumer fails on: those whose number has this remainder.
remainders = st.tuples(st.integers(1, 3), st.integers(0, 2))
failures = st.dictionaries(
    consumers, st.tuples(remainders, st.sampled_from([*WAYS_TO_FAIL])), min_size=1, max_size=3
)
ROUND = ["relay shop", "dispatch shop", "relay shop", "dispatch depot"]
movers = st.one_of(
    st.just(ROUND),
    st.just([*ROUND, *ROUND]),
    st.lists(st.sampled_from(list(MOVERS)), min_size=2, max_size=8),
)
told = st.lists(
    st.tuples(st.sampled_from(list(REACH)), st.sampled_from(ORDERS)), min_size=3, max_size=10
)


class Ledger:
    """What was recorded, and what an operator discarded."""

    def __init__(self) -> None:
        self.recorded: dict[tuple[type, str], list[int]] = defaultdict(list)
        self.discarded: set[tuple[str, str, int]] = set()

    def next(self, event: type, order: str) -> int:
        """Return the number of the next step, and note it."""
        steps = self.recorded[event, order]
        steps.append(len(steps) + 1)
        return len(steps)

    def expected(self) -> dict[tuple[str, str], list[int]]:
        """Return what each consumer must have handled of each order in the end."""
        return {
            (consumer, order): [
                number for number in numbers if (consumer, order, number) not in self.discarded
            ]
            for (event, order), numbers in self.recorded.items()
            for consumer in REACH[event]
        }


def handled() -> dict[tuple[str, str], list[int]]:
    """Return what each consumer has handled of each order, in order of its commit."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for model in (Entry, Pick):
        for consumer, order, number in model.objects.order_by("id").values_list(
            "consumer", "order", "number"
        ):
            found[consumer, order].append(number)
    return found


class World(RuleBasedStateMachine):
    """The shop and the depot, with everything that can happen to them."""

    made: ClassVar[Made]
    late = Bundle("late")
    source = "outbox"

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.stack = ExitStack()
        self.lates = self.open = 0
        self._settings(PARTITIONS[0])

    def _settings(self, partitions: dict[str, int]) -> None:
        self.partitions = partitions
        wanted = {
            **SHAKY,
            "CONTEXTS": {label: {"source": self.source} for label in LABELS},
            "PARTITIONS": partitions,
            "MAX_ATTEMPTS": 3,
            "BATCH_SIZE": 4,
            "BACKOFF": {"first": timedelta(hours=1), "maximum": timedelta(hours=1)},
        }
        self.stack.enter_context(override_settings(OUTBOX_INBOX=wanted))
        repartition()

    # Work

    def _record(self, told, suffix="", at=None):
        for event, order in told:
            key = order + suffix
            put(event(order=key, number=self.ledger.next(event, key)), at=at)

    @rule(told=told)
    def record_together(self, told):
        """A use case tells several things in one transaction."""
        put(*(event(order=order, number=self.ledger.next(event, order)) for event, order in told))

    @rule(told=told)
    def schedule(self, told):
        """A use case tells what will be of interest in an hour."""
        self._record(told, ", later", timezone.now() + timedelta(hours=1))

    @rule(told=told, movers=movers)
    def work(self, told, movers):
        """Use cases tell what happened, and workers do what there is to do."""
        self._record(told)
        for mover in movers:
            MOVERS[mover]()

    @rule(told=told, movers=movers, failures=failures, discards=st.booleans())
    def work_with_failing_consumers(self, told, movers, failures, discards):
        """Consumers fail on some messages, in all sorts of ways; an operator may discard them."""
        self._record(told)
        parts = {name: fail_on(*failure) for name, failure in failures.items()}
        with playing(**parts), unended():
            for mover in movers:
                survive(MOVERS[mover])
        for row in Delivery.objects.filter(state="dead").select_related("message"):
            if discards:
                self._discard(row.context, Queue.INBOX, row.message, row.consumer)

    @rule(told=told, movers=movers, fail=st.sampled_from([*WAYS_NOT_TO_SEND]))
    def work_with_a_failing_transport(self, told, movers, fail):
        """The transport refuses, breaks down or cannot be reached."""
        self._record([*told, (Checked, "a"), (Checked, "a")])
        MOVERS["relay shop"]()
        MOVERS["dispatch shop"]()
        with playing(shake=WAYS_NOT_TO_SEND[fail]):
            for mover in ["relay shop", *movers]:
                MOVERS[mover]()

    @rule(
        told=told,
        movers=movers,
        point=st.sampled_from(POINTS),
        hit=st.integers(1, 4),
        noticed=st.booleans(),
    )
    def work_and_crash(self, told, movers, point, hit, noticed):
        """A worker ends in the middle of what it does; others go on."""
        self._record(told)
        with at(point, hit, crash), unended():
            for mover in movers:
                survive(MOVERS[mover])
        if noticed:
            fall_silent()

    @rule(
        told=told,
        movers=movers,
        robbers=movers,
        point=st.sampled_from(BETWEEN),
        hit=st.integers(1, 3),
        failures=failures,
    )
    def work_and_be_robbed(self, told, movers, robbers, point, hit, failures):
        """A worker that is only slow is taken for crashed, and finds out."""
        self._record(told)

        def rob():
            fall_silent()
            for mover in robbers:
                MOVERS[mover]()

        parts = {name: fail_on(when, "error") for name, (when, _) in failures.items()}
        with playing(**parts), at(point, hit, rob):
            for mover in movers:
                MOVERS[mover]()

    @rule(target=late, event=st.sampled_from(list(REACH)))
    @precondition(lambda self: connection.vendor != "sqlite" and self.lates < 3)
    def begin_late_commit(self, event):
        """A use case records, and takes its time to commit."""
        self.lates += 1
        self.open += 1
        key = f"late {self.lates}"
        worker = self.stack.enter_context(Worker())
        block = transaction.atomic()
        worker.do(block.__enter__)
        worker.do(put, event(order=key, number=1))
        return (worker, block, event, key)

    @rule(begun=consumes(late))
    def commit_late(self, begun):
        """It commits at last, with an id far below the newest."""
        worker, block, event, key = begun
        worker.do(block.__exit__, None, None, None)
        self.open -= 1
        self.ledger.next(event, key)

    @rule()
    def let_time_pass(self):
        """Whatever is backing off, resting or scheduled comes due, and crashes are noticed."""
        come_due()
        fall_silent()

    # Operators

    @rule(label=st.sampled_from(LABELS), queue=st.sampled_from(QUEUES), movers=movers)
    def work_while_paused(self, label, queue, movers):
        """An operator has a queue stopped for a while, and tries again what failed."""
        pause(get_context(label), queue)
        for mover in movers:
            MOVERS[mover]()
        resume(get_context(label), queue)
        self._retry()

    def _retry(self) -> None:
        for label in LABELS:
            retry(Selection(context=label))

    @rule(data=st.data())
    @precondition(lambda self: OutboxMessage.objects.filter(state="dead").exists())
    def discard_message(self, data):
        """An operator sets a dead message aside: no consumer behind it need have it."""
        dead = OutboxMessage.objects.filter(state="dead").order_by("id")
        chosen = data.draw(st.sampled_from(list(dead)))
        self._discard(chosen.context, Queue.OUTBOX, chosen, None)

    def _discard(self, label: str, queue: Queue, message: Any, consumer: str | None) -> None:
        chosen = Selection(context=label, queue=queue, id=message.message_id, consumer=consumer)
        assert discard(chosen, "not needed").total == 1
        step = json.loads(message.payload)
        for name in behind(message.type, consumer):
            self.ledger.discarded.add((name, step["order"], step["number"]))

    @rule(partitions=st.sampled_from(PARTITIONS))
    @precondition(lambda self: not self.open)  # it would wait for them
    def change_partitions(self, partitions):
        """An operator spreads the queues anew."""
        self._settings(partitions)

    # Promises

    @invariant()
    def nothing_is_doubled_or_out_of_order(self):
        """Each consumer has handled its steps of an order in order, none of them twice."""
        for place, numbers in handled().items():
            assert numbers == sorted(set(numbers)), (place, numbers)

    def teardown(self):
        """When the faults stop, everything drains (rule O10), and nothing is missing."""
        try:
            self._settle()
            wanted = self.ledger.expected()
            assert dict(handled()) == {
                place: numbers for place, numbers in wanted.items() if numbers
            }
        finally:
            self.stack.close()
            for alias, partitions in self.made.items():
                empty(alias, partitions)

    def _settle(self) -> None:
        for _ in range(20):
            self.let_time_pass()
            self._retry()
            run_all()
            if not unfinished():
                return
        raise AssertionError(f"stuck: {unfinished()}")


class StreamWorld(World):
    """The same, where the contexts have no outbox now and then."""

    source = "stream"

    @rule(source=st.sampled_from(["stream", "outbox"]))
    @precondition(lambda self: not self.open)
    def change_source(self, source):
        """A deployment changes the source of both contexts, after the last change is through."""
        if not any(unsent(get_context(label)).events for label in LABELS):
            self.source = source
            self._settings(self.partitions)

    @rule(partitions=st.sampled_from(PARTITIONS))
    @precondition(lambda self: not self.open)
    def change_partitions(self, partitions):
        """An operator spreads the queues anew, but not what is left in a stream."""
        if not any(unsent(get_context(label)).events for label in LABELS):
            self._settings(partitions)


def fail_on(when: tuple[int, int], way: str) -> Callable[..., Any]:
    """Return a part that fails on every second or third step, and else does its work."""
    divisor, remainder = when

    def part(events: Any) -> Any:
        several = as_list(events)
        if any(event.number % divisor == remainder % divisor for event in several):
            WAYS_TO_FAIL[way](events)
        translate = TRANSLATED.get(type(several[0]))
        return translate and translate(several[0])

    return part


TRANSLATED: dict[type, Callable[[Any], Any]] = {
    Checked: lambda event: Sold(order=event.order, number=event.number),
    View: lambda event: Wanted(order=event.order, number=event.number),
}


def survive(mover: Callable[[], Any]) -> None:
    """Let a worker work until it is done, or crashes."""
    try:
        mover()
    except Crash:
        note("crashed")


@contextmanager
def at(name: str, hit: int, act: Callable[[], None]) -> Iterator[None]:
    """Do something at one hit of a fault point, if it comes to that."""
    with suppress(PointNotReached), striking(name, act, hit):
        yield


def behind(type_name: str, consumer: str | None) -> tuple[str, ...]:
    """Return which consumers will not handle what is discarded here."""
    if consumer is not None:
        name = consumer.split(".")[-1]
        beyond = {"outbound": ("pick", "watch"), "inbound": ("pick",), "witness": (), "survey": ()}
        return beyond.get(name, (name,))
    reach = {f"shop.{event.__name__}": consumers for event, consumers in REACH.items()}
    return {**reach, "shop.sold": ("pick", "watch")}[type_name]


def unfinished() -> list[Any]:
    """Return what is neither done nor discarded."""
    finished = ("sent", "done", "discarded")
    left = [(label, unsent(get_context(label)).events) for label in LABELS]
    return [
        *((label, "in the stream", count) for label, count in left if count),
        *(
            (row.state, row.key, row.attempts, row.holds, row.due_at, row.error)
            for model in (OutboxMessage, Delivery)
            for row in model.objects.exclude(state__in=finished)
        ),
    ]


@contextmanager
def unended() -> Iterator[None]:
    """Let a run that crashes leave its token behind; one that does not ends as ever."""
    end = run_module._end_run

    def end_unless_crashed(run: Any) -> None:
        if not isinstance(sys.exc_info()[1], Crash):
            end(run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_end_run", end_unless_crashed)
        yield


def play(made: Made, world: type[World], *, by_chance: bool) -> None:
    """Play a world through, always the same games, or twenty times as many by chance.

    What fails by chance prints how to play it again.
    """
    World.made = made
    run_state_machine_as_test(
        world,
        settings=settings(
            max_examples=EXAMPLES[connection.vendor] * (20 if by_chance else 1),
            stateful_step_count=20,
            derandomize=not by_chance,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


each_time = pytest.mark.parametrize(
    "by_chance", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["always", "chance"]
)


@each_time
def test_whatever_happens_every_promise_is_kept(both_databases, committed, by_chance):
    """Any order of work, faults, crashes and operators ends with everything done, once, in order."""
    play(both_databases, World, by_chance=by_chance)


@pytest.mark.catch_up
@each_time
def test_without_an_outbox_every_promise_is_kept(both_databases, committed, by_chance):
    """The same from the stream, and while the source changes."""
    play(both_databases, StreamWorld, by_chance=by_chance)
