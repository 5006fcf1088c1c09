"""The transaction of a handler, whatever breaks it or cuts in: all of it or nothing, once."""

from uuid import uuid4

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from outbox_inbox import record, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.inbox import dispatcher
from outbox_inbox.models import Delivery, DeliveryAttempt, Partition, Queue
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.run import Run
from tests.shop.events import Counted, Loose, Noted
from tests.shop.models import Entry, Remark
from tests.support.handling import delivery, each_way, has_second_of_a, numbers
from tests.support.movers import (
    Worker,
    come_due,
    deliver,
    delivery_states,
    dispatch,
    end_session,
    entries,
    failing,
    fall_silent,
    heard,
    leave_token,
    relay,
    session,
    steps,
    striking,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")


# A handler that misbehaves


@each_way
def test_a_transaction_marked_for_rollback_is_a_failure(one, consumer, event):
    """`set_rollback(True)` would end the transaction without an error, and without the effects."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            transaction.set_rollback(True)

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery_states(consumer) == ["ready", "waiting"]
    assert "marked for rollback" in delivery(consumer).error
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_a_swallowed_database_error_is_a_failure(one, consumer, event):
    """PostgreSQL answers the COMMIT of a broken transaction with a ROLLBACK, which is no error."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            try:
                Entry.objects.create(pk=Entry.objects.first().pk)
            except DatabaseError:
                return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery(consumer).attempts == 1


@pytest.mark.postgres
@each_way
def test_an_error_swallowed_below_the_orm_is_a_failure(one, consumer, event):
    """Django knows nothing of it, but the connection does."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            try:
                connection.connection.execute("SELECT 1/0")
            except Exception:  # noqa: BLE001  a handler of that kind catches everything
                return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery(consumer).attempts == 1


@each_way
def test_a_database_error_within_a_savepoint_may_be_swallowed(one, consumer, event):
    """That is what savepoints are for."""
    deliver(*steps(event, 2))

    def part(events):
        try:
            with transaction.atomic():
                Entry.objects.create(pk=Entry.objects.first().pk)
        except DatabaseError:
            return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_an_error_of_an_on_commit_hook_is_no_failed_attempt(one, consumer, event):
    """It comes after everything is stored; it is announced, and nothing is repeated."""
    deliver(*steps(event, 2))
    part = playing(**{consumer: lambda events: transaction.on_commit(lambda: 1 / 0)})
    with heard(signals.hook_failed) as told, part:
        dispatch()
    assert entries(consumer) == [1, 2]
    assert delivery_states(consumer) == ["done", "done"]
    assert told[0]["error"] == "ZeroDivisionError: division by zero"


@each_way
def test_an_on_commit_hook_runs_after_the_commit(one, consumer, event):
    """It sees what all others see."""
    deliver(*steps(event, 1))
    seen = []
    with Worker() as other:

        def look():
            seen.append(other.do(entries, consumer))

        with playing(**{consumer: lambda events: transaction.on_commit(look)}):
            dispatch()
    assert seen == [[1]]


@each_way
def test_an_interruption_undoes_and_releases(one, consumer, event):
    """It is raised, the message is as it was, and the partition is left with a clean end."""
    deliver(*steps(event, 2))
    interrupted = failing(1, error=KeyboardInterrupt)
    with playing(**{consumer: interrupted}), pytest.raises(KeyboardInterrupt):
        dispatch()
    assert entries(consumer) == []
    assert set(
        Delivery.objects.filter(consumer__endswith=consumer).values_list("state", "attempts")
    ) == {("ready", 0)}
    assert not Partition.objects.filter(run__isnull=False).exists()
    dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_a_constraint_that_fails_at_commit_is_a_failed_attempt_of_the_guilty(one, consumer, event):
    """A deferred foreign key is only checked by COMMIT, when all handlers have returned."""
    deliver(*steps(event, 3), *steps(event, 2, "b"))

    def part(events):
        if has_second_of_a(events):
            Remark.objects.create(entry_id=1_000_000_000)

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == [1]
    assert entries(consumer, "b") == [1, 2]
    assert delivery(consumer, 2, key="a").error.startswith("IntegrityError")
    assert delivery_states(consumer, key="a") == ["done", "ready", "waiting"]
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@pytest.mark.server
@each_way
def test_a_lost_connection_is_no_failed_attempt(one, consumer, event):
    """It is raised, since it is the fault of no message, and the message is handled later."""
    deliver(*steps(event, 2))

    def part(events):
        end_session(session())

    with playing(**{consumer: part}), pytest.raises(OperationalError):
        dispatch()
    connection.close()
    assert not DeliveryAttempt.objects.exists()
    assert Partition.objects.get(context="shop", queue=Queue.INBOX).run is not None
    leave_token(Queue.INBOX)
    dispatch()
    assert entries(consumer) == [1, 2]


@pytest.mark.server
def test_a_connection_that_is_lost_between_two_messages_is_no_failed_attempt(one):
    """What is done is done, and the next message was not even begun."""
    deliver(*steps(Noted, 3))
    mine = session()
    with Worker() as other:
        cut = striking("dispatch.after_commit", lambda: other.do(end_session, mine))
        with cut, pytest.raises(OperationalError):
            dispatch()
    connection.close_if_unusable_or_obsolete()  # as a worker does after an error
    assert not DeliveryAttempt.objects.exists()
    fall_silent()
    dispatch()
    assert entries() == [1, 2, 3]


@each_way
def test_a_database_that_is_locked_for_too_long_is_no_failed_attempt(
    one, monkeypatch, consumer, event
):
    """The message was not even touched; the error is raised."""
    deliver(*steps(event, 2))

    def be_locked(*_, **__):
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "claim", be_locked)
        patch.setattr(dispatcher.statements, "mark_done", be_locked)
        with pytest.raises(OperationalError):
            dispatch()
    assert not DeliveryAttempt.objects.exists()
    assert not Partition.objects.filter(run__isnull=False).exists()
    dispatch()
    assert entries(consumer) == [1, 2]


# Others at work


def test_what_was_read_ahead_is_dropped_when_somebody_else_was_there(one):
    """Order holds, and nothing is done twice, when another worker or an operator cut in."""
    deliver(*steps(Noted, 3))
    with striking("dispatch.after_commit", lambda: cut_in(Queue.INBOX)):
        assert dispatch().busy == 1
    dispatch()
    assert entries() == [1, 2, 3]


def cut_in(queue):
    """Be another worker, which takes the partitions."""
    Partition.objects.filter(queue=queue).update(run=uuid4(), last_run_at=None)


@each_way
def test_a_batch_is_not_committed_by_one_who_lost_the_partition(one, consumer, event):
    """The token is looked at in the transaction of the effects."""
    deliver(*steps(event, 3))
    select = dispatcher.statements.select_ready

    def select_and_lose(*arguments):
        rows = select(*arguments)
        transaction.on_commit(lambda: cut_in(Queue.INBOX))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher.statements, "select_ready", select_and_lose)
        assert dispatch().busy >= 1
    assert entries(consumer) == []
    leave_token(Queue.INBOX)
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_a_message_that_was_discarded_meanwhile_is_not_handled(one, consumer, event):
    """An operator's decision holds against what a worker has read ahead."""
    deliver(*steps(event, 3))
    select = dispatcher.statements.select_ready

    def select_and_wait(*arguments):
        rows = select(*arguments)
        transaction.on_commit(discard_second)
        return rows

    def discard_second():
        with operator_lock(get_context("shop"), Queue.INBOX):
            delivery_rows = Delivery.objects.filter(message__payload__contains='"number":2,')
            delivery_rows.update(state="discarded")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher.statements, "select_ready", select_and_wait)
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 3]


def test_a_handler_may_record_to_its_own_outbox(one):
    """In its transaction, so that a failure takes it back and a success sends it once."""
    deliver(*steps(Counted, 3))

    def part(event):
        record(Loose(order="a", number=event.number))
        failing(2)(event)

    with playing(count=part):
        dispatch()
    relay()
    dispatch()
    assert entries("loose") == [1]
    come_due()
    dispatch()
    relay()
    dispatch()
    assert entries("loose") == [1]
    assert entries("count") == [1, 2, 3]
