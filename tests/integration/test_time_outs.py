"""Time-outs of processes as messages: their conversation, their chain, and which one is pending."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from outbox_inbox import record
from outbox_inbox.contexts import get_context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import OutboxMessage, ProcessState
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues import wakeup
from outbox_inbox.testing import DrainFailed, advance, drain, recorded
from tests.support.movers import put, states
from tests.support.script import playing
from tests.yard.events import Begun, Expired, Moved
from tests.yard.processes import SOME_DAY, Deal

pytestmark = pytest.mark.usefixtures("yarded")

CENTURY = timedelta(days=100 * 365)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def begin() -> OutboxMessage:
    """Begin a deal, let it settle, and return the message that began it."""
    put(Begun(order="a"))
    drain()
    return OutboxMessage.objects.get(type="yard.Begun")


def change(**columns: Any) -> None:
    """Change the row of the deal, as another step would."""
    assert ProcessState.objects.update(**columns) == 1


def log() -> list[str]:
    """Return what the deal remembers of its steps."""
    return list(json.loads(ProcessState.objects.get().state)["log"])


def time_outs() -> list[str]:
    """Return the states of the messages of time-outs, in order."""
    return states(type="deal.TimedOut")


# Their place in a conversation


@pytest.mark.parametrize("at", [SOME_DAY, LONG_AGO], ids=["far", "at once"])
def test_a_time_out_belongs_to_the_conversation_of_the_message_that_set_it(at: datetime) -> None:
    """It names that one as its cause, however long it takes to come."""
    with playing(begin=lambda process, _event: process.time_out("late", at=at)):
        begun = begin()
    time_out = OutboxMessage.objects.get(type="deal.TimedOut")
    wanted = (begun.correlation_id, begun.message_id)
    assert (time_out.correlation_id, time_out.causation_id) == wanted


def test_reminders_of_less_than_a_minute_are_one_chain(settings: Any) -> None:
    """A process that reminds itself again and again is a loop, which MAX_HOPS ends."""
    settings.OUTBOX_INBOX = {"MAX_HOPS": 4}

    def again(process: Deal) -> None:
        process.time_out("late", at=datetime.now(UTC) + timedelta(seconds=30))

    def remind() -> None:
        for _ in range(5):
            advance(CENTURY)
            drain()

    begin()
    with playing(late=again), pytest.raises(DrainFailed, match="HopLimitExceeded"):
        remind()


def test_an_early_event_keeps_its_place_in_its_chain() -> None:
    """What it causes after the start is one message further than itself, not than the start."""
    put(Moved(order="a", place="hall"))
    OutboxMessage.objects.update(hops=7)
    drain()
    with playing(move=lambda *_: record(Expired(order="a", name="by move"))):
        begin()
    assert OutboxMessage.objects.get(type="yard.Expired").hops == 8


# Which one is pending


def test_a_time_out_that_was_set_again_while_it_was_on_its_way_is_ignored() -> None:
    """The instance names the message of the new one, which is still to come."""
    begin()
    advance(CENTURY)
    relay_outbox(get_context("yard"))
    change(time_outs=json.dumps({"late": {"id": str(uuid4()), "at": SOME_DAY.isoformat()}}))
    drain()
    assert recorded(Expired) == []


def test_a_last_step_sets_no_time_out() -> None:
    """A finished instance waits for nothing, whatever its last step has asked for before."""

    def end(process: Deal, _event: Moved) -> None:
        process.time_out("other", at=SOME_DAY)
        process.finish()

    begin()
    with playing(move=end):
        put(Moved(order="a", place="hall"))
        drain()
    assert (ProcessState.objects.get().time_outs, time_outs()) == ("{}", ["discarded"])


def test_a_time_out_is_followed_by_what_was_kept_for_want_of_a_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step by a time-out tries it again, as one by an event does."""
    put(Moved(order="a", place="hall"))
    drain()
    routes = {event: each for event, each in Deal.routes.items() if event is not Moved}
    with monkeypatch.context() as without:
        without.setattr(Deal, "routes", routes)
        begin()
    drain(until=SOME_DAY)
    assert log() == ["begun 0", "late", "moved hall"]


# Wake-ups


@pytest.mark.parametrize(("at", "announced"), [(LONG_AGO, True), (SOME_DAY, False)])
def test_a_time_out_that_is_due_at_once_is_announced(
    settings: Any, monkeypatch: pytest.MonkeyPatch, at: datetime, announced: bool
) -> None:
    """A worker is woken up for it; for one that is far away there is nothing to do yet."""
    settings.OUTBOX_INBOX = {"WAKE_UP": "celery"}
    sent: list[str] = []
    monkeypatch.setattr(wakeup.celery, "publish_task", lambda task, label: sent.append(label))
    put(Begun(order="a"))
    relay_outbox(get_context("yard"))
    sent.clear()
    with playing(begin=lambda process, _event: process.time_out("late", at=at)):
        dispatch_inbox(get_context("yard"))
    assert ("yard" in sent) is announced
