"""Processes: what they wait for, what they set and cancel, and that each step is one transaction."""

import json
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction

from outbox_inbox import record
from outbox_inbox.contexts import get_context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import Delivery, OutboxMessage, ProcessState
from outbox_inbox.operations import prune, queue_stats
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.testing import DrainFailed, advance, drain
from tests.shop.contracts import Sold
from tests.support.deals import begin, expired, instance, log, move, pending, time_outs
from tests.support.movers import (
    PATIENCE,
    Broken,
    Worker,
    crash,
    crashing,
    eventually,
    put,
    raising,
    striking,
    together,
    waits_for_lock,
)
from tests.support.script import playing
from tests.yard.events import Begun, Ended, Expired, Moved, Nudged
from tests.yard.processes import SOME_DAY, Deal

pytestmark = pytest.mark.usefixtures("yarded")

SOON = SOME_DAY - timedelta(days=1)


def test_a_process_goes_on_with_the_events_of_two_contexts() -> None:
    """Own events and a foreign contract reach the same instance."""
    begin()
    put(Moved(order="a", place="hall"))
    put(Sold(order="a", number=1))
    drain()
    assert sorted(log()) == ["begun 0", "moved hall", "sold 1"]


def test_a_time_out_that_comes_is_told_of() -> None:
    """When its time has come, its method is called, once."""
    begin()
    drain(until=SOME_DAY)
    assert (expired(), log(), pending()) == (["late"], ["begun 0", "late"], [])


def test_a_time_out_does_not_come_before_its_time() -> None:
    """Until then it is a scheduled message, which is no left-over."""
    begin()
    drain(until=SOON)
    assert (expired(), time_outs(), pending()) == ([], ["pending"], ["late"])


def test_a_cancelled_time_out_does_not_come() -> None:
    """Its message is set aside, and says why."""
    begin()
    with playing(move=lambda process, _event: process.cancel("late")):
        move()
    drain(until=SOME_DAY)
    assert (expired(), time_outs(error__contains="cancelled")) == ([], ["discarded"])


def test_a_time_out_set_again_comes_once_and_later() -> None:
    """The new time replaces the old one."""
    begin()
    later = SOME_DAY + timedelta(days=1)
    with playing(move=lambda process, _event: process.time_out("late", at=later)):
        move()
    drain(until=SOME_DAY)
    assert expired() == []
    drain(until=later)
    assert (expired(), time_outs()) == (["late"], ["discarded", "sent"])


def test_several_time_outs_come_in_the_order_of_their_times() -> None:
    """They are told apart by their names."""
    with playing(begin=lambda process, _event: process.time_out("other", at=SOON)):
        begin()
    drain(until=SOME_DAY)
    assert expired() == ["other", "late"]


def test_a_time_out_in_the_past_comes_at_once() -> None:
    """There is nothing to be waited for."""
    past = datetime(2000, 1, 1, tzinfo=UTC)
    with playing(begin=lambda process, _event: process.time_out("other", at=past)):
        begin()
    assert expired() == ["other"]


def test_a_finished_process_cancels_its_time_outs_and_ignores_what_comes() -> None:
    """The end is the end, and is remembered."""
    begin()
    put(Ended(order="a"))
    drain()
    put(Moved(order="a", place="hall"), key="a")
    put(Begun(order="a"))
    drain(until=SOME_DAY)
    assert (log(), expired(), time_outs()) == (["begun 0", "ended"], [], ["discarded"])
    assert instance().finished_at is not None


@pytest.mark.parametrize("order", ["a", "b"], ids=["taken", "kept for later"])
def test_an_event_moves_the_time_of_the_last_change(order: str) -> None:
    """The admin shows by it which instance has been silent for long."""
    begin("a")
    put(Moved(order="b", place="gate"))
    drain()
    ProcessState.objects.update(changed_at=SOME_DAY)
    put(Moved(order=order, place="hall"))
    drain()
    assert instance(order).changed_at != SOME_DAY


def test_a_second_start_is_ignored() -> None:
    """An instance begins once."""
    begin()
    put(Begun(order="a", number=2))
    drain()
    assert (log(), time_outs()) == (["begun 0"], ["pending"])


def test_an_event_that_may_start_and_go_on_does_both() -> None:
    """The contract starts an instance if it comes first."""
    put(Sold(order="a", number=1))
    put(Sold(order="a", number=2))
    drain()
    assert log() == ["sold 1", "sold 2"]


def test_what_comes_before_the_start_is_kept_and_handled_after_it_in_order() -> None:
    """No order is promised between keys, so an early event waits in the row of the process."""
    for place in ("hall", "yard", "gate"):
        move(place)
    assert instance().started_at is None
    begin()
    assert log() == ["begun 0", "moved hall", "moved yard", "moved gate"]


def test_an_early_event_is_handled_once() -> None:
    """The steps after the start do not meet it again."""
    move()
    begin()
    move("gate")
    assert log() == ["begun 0", "moved hall", "moved gate"]


def test_an_early_event_of_the_same_key_does_not_hold_up_the_start() -> None:
    """It is done, not retried: the start stands behind it."""
    put(Ended(order="a"), Begun(order="a"))
    drain()
    assert (log(), time_outs()) == (["begun 0", "ended"], ["discarded"])


def test_what_an_early_event_causes_names_it_as_the_cause() -> None:
    """Kept events keep their correlation."""
    (early,) = put(Moved(order="a", place="hall"))
    drain()
    with playing(move=lambda *_: record(Expired(order="a", name="by move"))):
        begin()
    caused = OutboxMessage.objects.get(type="yard.Expired")
    assert (caused.causation_id, caused.correlation_id) == (early.id, early.correlation_id)


def test_an_event_may_be_ignored_while_there_is_no_instance() -> None:
    """With missing="ignore" nothing is kept."""
    put(Nudged(order="a"))
    drain()
    assert not ProcessState.objects.exists()
    begin()
    assert log() == ["begun 0"]


def test_an_event_for_no_instance_is_ignored() -> None:
    """None as the key says that it concerns no process."""
    put(Moved(order=None, place="hall"))
    drain()
    assert not ProcessState.objects.exists()


def test_a_failed_step_leaves_nothing_behind() -> None:
    """State, time-outs and recorded events are rolled back together, and come with the retry."""
    begin()

    def fail(process: Deal, _event: Moved) -> None:
        process.cancel("late")
        process.time_out("other", at=SOME_DAY)
        record(Expired(order="a", name="half done"))
        raise Broken

    with playing(move=fail), pytest.raises(DrainFailed):
        move()
    assert (log(), pending(), expired(), time_outs()) == (["begun 0"], ["late"], [], ["pending"])
    advance(timedelta(minutes=1))
    drain()
    assert log() == ["begun 0", "moved hall"]


def test_a_state_that_cannot_be_stored_fails_its_step() -> None:
    """The error names the field, and the state before is kept."""
    begin()

    def spoil(process: Deal, _event: Moved) -> None:
        process.log = ("\x00",)

    with playing(move=spoil), pytest.raises(DrainFailed, match=r"InvalidEvent: Deal[\s\S]*log"):
        move()
    assert log() == ["begun 0"]


def test_a_message_that_comes_twice_is_one_step() -> None:
    """The inbox knows its id."""
    begin()
    move()
    OutboxMessage.objects.filter(type="yard.Moved").update(state="pending")
    drain()
    assert log() == ["begun 0", "moved hall"]


def test_a_time_out_on_its_way_when_it_is_cancelled_is_ignored() -> None:
    """It is in the inbox already; the state knows that it is not the pending one."""
    begin()
    advance(timedelta(days=100 * 365))
    relay_outbox(get_context("yard"))
    row = instance()
    row.time_outs = "{}"
    row.save()
    drain()
    assert (expired(), log(), time_outs()) == ([], ["begun 0"], ["sent"])


def test_a_time_out_on_its_way_when_it_is_set_again_is_ignored() -> None:
    """Another message is the pending one by then, and comes at a time of its own."""
    begin()
    advance(timedelta(days=100 * 365))
    relay_outbox(get_context("yard"))
    row = instance()
    row.time_outs = json.dumps({"late": {**json.loads(row.time_outs)["late"], "id": str(uuid4())}})
    row.save()
    drain()
    assert (expired(), pending()) == ([], ["late"])


@pytest.mark.server  # on SQLite there is one writer at a time: no such race
def test_a_time_out_can_be_cancelled_while_the_relay_moves_it() -> None:
    """The process does not wait for the relay, and the time-out is ignored when it arrives."""
    begin()
    put(Moved(order="a", place="hall"))
    relay_outbox(get_context("yard"))
    advance(timedelta(days=100 * 365))
    done: list[int] = []

    def cancel_meanwhile() -> None:
        with Worker() as dispatcher:
            done.append(dispatcher.do(dispatch_inbox, get_context("yard")).done)

    with (
        playing(move=lambda process, _event: process.cancel("late")),
        striking("relay.before_mark", cancel_meanwhile),
    ):
        relay_outbox(get_context("yard"))
    assert (done, time_outs()) == ([1], ["sent"])
    drain()
    assert (expired(), pending(), log()) == ([], [], ["begun 0", "moved hall"])


@pytest.mark.server  # on SQLite there is one writer at a time: no such race
def test_two_events_race_for_the_first_row() -> None:
    """Of two partitions that start one instance, one waits and takes what the other has made."""
    put(Begun(order="a"))
    put(Moved(order="a", place="hall"))
    relay_outbox(get_context("yard"))
    begun, moved = (Delivery.objects.get(message__type=f"yard.{n}") for n in ("Begun", "Moved"))
    assert begun.partition != moved.partition

    started: list[Future[Outcome]] = []
    waited: list[bool] = []

    with Worker() as other:

        def rival(*_: Any) -> None:
            if not started:
                started.append(other.start(dispatch_inbox, get_context("yard")))
                waited.append(eventually(waits_for_lock, "the other partition"))

        with striking("dispatch.after_handler", rival):
            dispatch_inbox(get_context("yard"))
        started[0].result(PATIENCE)
    drain()
    assert (waited, log()) == ([True], ["begun 0", "moved hall"])


def test_many_workers_take_all_steps_of_one_instance() -> None:
    """Sixteen events of different keys, four dispatchers: every step is there, once."""
    begin()
    places = [f"place {number}" for number in range(16)]
    put(*[Moved(order="a", place=place) for place in places])
    relay_outbox(get_context("yard"))
    together(*[lambda: dispatch_inbox(get_context("yard"))] * 4)
    drain()
    assert sorted(log()[1:]) == sorted(f"moved {place}" for place in places)


@pytest.mark.parametrize(
    "point",
    [
        "dispatch.after_claim",
        "dispatch.before_handler",
        "dispatch.after_handler",
        "dispatch.before_commit",
        "dispatch.after_commit",
    ],
)
def test_a_crash_at_any_step_loses_and_repeats_nothing(point: str) -> None:
    """What the step did is there once, whenever its worker dies."""
    begin()

    def go(process: Deal, event: Moved) -> None:
        process.time_out("other", at=SOON)
        process.cancel("late")
        record(Expired(order="a", name="moved"))

    with playing(move=go):
        put(Moved(order="a", place="hall"))
        relay_outbox(get_context("yard"))
        with crashing(), striking(point, crash):
            dispatch_inbox(get_context("yard"))
        drain()
    drain(until=SOME_DAY)
    assert log() == ["begun 0", "moved hall", "other"]
    assert (expired(), time_outs()) == (["moved", "other"], ["discarded", "sent"])


def test_a_newer_state_is_refused_without_loss() -> None:
    """A worker of newer code has stored it, and takes the step: no attempt is counted here."""
    begin()
    ProcessState.objects.update(schema_version=3)
    move()
    left = Delivery.objects.exclude(state="done").values_list("state", "attempts")
    assert (log(), set(left)) == (["begun 0"], {("ready", 0)})


def test_an_older_state_is_read_and_stored_as_the_new_one() -> None:
    """The next step takes it through the upcaster of the context."""
    begin()
    ProcessState.objects.update(state='{"notes":["begun long ago"]}', schema_version=1)
    move()
    assert (log(), instance().schema_version) == (["begun long ago", "moved hall"], 2)


def test_an_early_event_of_an_older_version_is_read_at_the_start() -> None:
    """It was kept by a deployment that knew no other."""
    move()
    row = instance()
    (kept,) = json.loads(row.early)
    older = {**kept, "version": 1, "data": '{"order":"a","to":"old hall"}'}
    row.early = json.dumps([older])
    row.save()
    begin()
    assert log() == ["begun 0", "moved old hall"]


def test_an_early_event_that_fails_fails_the_start_and_stays() -> None:
    """Nothing is half started: once it can be handled, the retry handles both."""
    move()

    with playing(move=raising(Broken)):
        put(Begun(order="a"))
        with pytest.raises(DrainFailed):
            drain()
    assert (instance().started_at, len(json.loads(instance().early)), time_outs()) == (None, 1, [])
    advance(timedelta(minutes=1))
    drain()
    assert (log(), instance().early) == (["begun 0", "moved hall"], "[]")


def test_an_early_event_without_a_method_stays_with_those_behind_it() -> None:
    """Its class is not known in this process; the later ones of its key must not overtake it."""
    for place in ("hall", "yard"):
        move(place)
    row = instance()
    first, second = json.loads(row.early)
    row.early = json.dumps([{**first, "type": "yard.Renamed", "key": "k"}, {**second, "key": "k"}])
    row.save()
    begin()
    kept = [each["type"] for each in json.loads(instance().early)]
    assert (log(), kept) == (["begun 0"], ["yard.Renamed", "yard.Moved"])


def test_a_kept_event_is_handled_with_the_next_step_that_has_its_method(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes before the event of that step, or after a time-out."""
    move("hall")
    routes = {event: each for event, each in Deal.routes.items() if event is not Moved}
    with monkeypatch.context() as without:
        without.setattr(Deal, "routes", routes)
        begin()
    assert (log(), "keeps 1 events" in caplog.text) == (["begun 0"], True)
    put(Nudged(order="a"))
    drain()
    assert (log(), instance().early) == (["begun 0", "moved hall", "nudged"], "[]")


def test_what_is_asked_for_after_the_step_is_refused() -> None:
    """It would be lost: everything is stored already."""
    begin()
    said: list[str] = []

    def too_late(process: Deal) -> None:
        for ask in (process.finish, lambda: process.cancel("late")):
            with pytest.raises(RuntimeError, match="its step is over"):
                ask()
        said.append(process.key)

    with playing(move=lambda process, _event: transaction.on_commit(lambda: too_late(process))):
        move()
    assert (said, pending(), instance().finished_at) == (["a"], ["late"], None)


def test_a_reminder_every_day_is_no_chain_of_messages_without_end() -> None:
    """A time-out that lies ahead begins a new chain, so MAX_HOPS does not end it."""
    days = [SOME_DAY + timedelta(days=number) for number in range(40)]

    def again(process: Deal) -> None:
        if days:
            process.time_out("late", at=days.pop(0))

    with playing(late=again):
        begin()
        drain(until=SOME_DAY + timedelta(days=50))
    assert len(expired()) == 41


def test_a_time_out_of_the_future_is_counted_as_scheduled() -> None:
    """The statistics count it apart from what is unfinished."""
    begin()
    found = [stats for stats in queue_stats() if stats.context == "yard" and stats.scheduled]
    assert [(stats.unfinished, stats.scheduled) for stats in found] == [(0, 1)]


def test_pruning_removes_what_is_finished_only() -> None:
    """Finished instances go after RETENTION; running ones, and early events, stay."""
    begin("a")
    begin("b")
    put(Ended(order="a"))
    put(Moved(order="c", place="hall"))
    drain()
    prune(older_than=timedelta(0))
    assert sorted(ProcessState.objects.values_list("key", flat=True)) == ["b", "c"]


def test_a_time_out_without_a_method_is_refused() -> None:
    """The error names those that there are."""
    with playing(begin=lambda process, _event: process.time_out("lat", at=SOME_DAY)):
        put(Begun(order="a"))
        with pytest.raises(DrainFailed, match="did you mean 'late'"):
            drain()
    assert not ProcessState.objects.exists()
