"""What the database ends so that another transaction can go on costs no message an attempt."""

import psycopg
import pytest
from django.db import OperationalError, connection, transaction

from outbox_inbox.aggregates import retry_on_conflict
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, DeliveryAttempt, OutboxMessage, Queue
from outbox_inbox.queues.statements.dialects import gave_way
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.shop.contracts import Sold
from tests.shop.events import Counted, Listed, Noted
from tests.shop.models import Entry
from tests.support.movers import (
    deliver,
    dispatch,
    entries,
    leave_token,
    put,
    relay,
    states,
    steps,
    together,
)
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = [pytest.mark.usefixtures("committed"), pytest.mark.postgres]

ERRORS = pytest.mark.parametrize(
    "cause", [psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure]
)
WAYS = pytest.mark.parametrize(
    ("part", "event"), [("note", Noted), ("count", Counted), ("enlist", Listed)]
)


def once(cause, own=None):
    """Return a part that fails as PostgreSQL would let it, the first time it is called."""
    met = []

    def act(*_):
        if not met:
            met.append(cause)
            error = OperationalError("for another's sake")
            error.__cause__ = cause()
            if own is None:
                raise error
            raise own("the stock is not available") from error

    return act


@WAYS
@ERRORS
def test_a_conflict_in_a_handler_is_no_attempt(part, event, cause):
    """The delivery is handled at the next look, in each way of handling."""
    deliver(*steps(event, 1))
    with playing(**{part: once(cause)}):
        dispatch()
        dispatch()
    assert not DeliveryAttempt.objects.exists()
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}


@ERRORS
def test_a_conflict_in_a_careful_walk_is_not_taken_for_the_end_of_a_worker(cause):
    """A delivery that had failed before is handled by the next careful walk."""
    deliver(*steps(Noted, 1))
    Delivery.objects.update(attempts=3, error="ValueError: of another day")
    leave_token(Queue.INBOX)
    with playing(note=once(cause)):
        dispatch()
    leave_token(Queue.INBOX)
    dispatch()
    assert entries() == [1]


@ERRORS
def test_a_conflict_that_a_handler_names_otherwise_is_no_attempt(cause):
    """A handler may raise an error of its own from the database's."""
    deliver(*steps(Noted, 1))
    with playing(note=once(cause, ValueError)):
        dispatch()
        dispatch()
    assert not DeliveryAttempt.objects.exists()


@ERRORS
def test_a_conflict_in_a_relay_is_no_attempt(cause, settings):
    """The batch is sent at the next look."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 1))
    with playing(publish=once(cause)):
        relay()
    relay()
    assert (states(), OutboxMessage.objects.get().attempts) == (["sent"], 0)


@ERRORS
def test_a_conflict_in_a_careful_walk_of_the_relay_is_no_attempt(cause, settings):
    """The attempt that was counted before is taken back: no worker has ended in it."""
    settings.OUTBOX_INBOX = WIRE
    put(*steps(Sold, 1))
    leave_token(Queue.OUTBOX)
    with playing(publish=once(cause)):
        relay()
    assert (states(), OutboxMessage.objects.get().attempts) == (["pending"], 0)


@ERRORS
@pytest.mark.usefixtures("boarded")
def test_a_conflict_in_a_projection_is_no_failure(cause):
    """The page is read again, without a back-off."""
    put(Scored(player="ann", points=1), stream="ann")
    with playing(add=once(cause)):
        outcome = update_projections(get_context("board"))
        update_projections(get_context("board"))
    assert (outcome.busy, outcome.failed) == (1, 0)
    assert dict(HighScore.objects.values_list("player", "points")) == {"ann": 1}


def test_another_error_is_no_conflict():
    """What only looks like it in words is a failure of the message."""
    assert not gave_way(connection, OperationalError("deadlock detected"))


def test_use_cases_at_serializable_are_retried():
    """`@retry_on_conflict` decides again after a serialization failure."""
    Entry.objects.create(consumer="sum", order="a", number=0)

    @retry_on_conflict(attempts=50)
    @transaction.atomic
    def add():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        entry = Entry.objects.get(consumer="sum")
        Entry.objects.filter(pk=entry.pk).update(number=entry.number + 1)

    together(*[lambda: [add() for _ in range(5)]] * 3)
    assert Entry.objects.get(consumer="sum").number == 15
