"""Consumers that end the transaction in which their delivery is marked."""

from contextlib import suppress

import pytest
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Checkpoint, Delivery, DeliveryAttempt
from outbox_inbox.queues.servers import renew_connections
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.shop.events import Counted, Noted
from tests.shop.models import Entry
from tests.support.handling import each_way
from tests.support.movers import deliver, delivery_states, dispatch, entries, put, steps
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

ENDS = pytest.mark.parametrize(
    "statement", ["COMMIT", "ROLLBACK", " rollback work", "BEGIN", "end"]
)


def executing(statement):
    """Return a part that executes a statement."""

    def part(_):
        with connection.cursor() as cursor:
            cursor.execute(statement)

    return part


@ENDS
@each_way
def test_a_statement_that_ends_the_transaction_is_a_failed_attempt(consumer, event, statement):
    """It is not executed, so nothing is half stored, and the error names it."""
    deliver(*steps(event, 1))
    with playing(**{consumer: executing(statement)}):
        dispatch()
    error = DeliveryAttempt.objects.get().error
    assert (" ".join(statement.split()) in error, entries(consumer)) == (True, [])


@each_way
def test_a_statement_that_was_refused_cannot_be_caught(consumer, event):
    """A consumer that goes on has failed all the same."""
    deliver(*steps(event, 1))

    def part(_):
        with suppress(Exception):
            executing("COMMIT")(_)

    with playing(**{consumer: part}):
        dispatch()
    assert (DeliveryAttempt.objects.count(), entries(consumer)) == (1, [])


@each_way
def test_savepoints_are_the_consumers_own(consumer, event):
    """`atomic()` in a consumer, and what it rolls back to, is not taken for an end."""
    deliver(*steps(event, 1))

    def part(_):
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT mine")
            cursor.execute("ROLLBACK TO SAVEPOINT mine")

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == [1]


def by_the_driver(statement):
    """Execute a statement on a cursor of the driver, which Django does not see."""
    connection.connection.cursor().execute(statement)


def committing(_):
    """Commit past Django, and fail."""
    by_the_driver("COMMIT")
    raise ValueError("the second half of the work")


@each_way
def test_a_commit_by_the_driver_and_a_failure_is_a_failed_attempt(consumer, event):
    """The mark that it is done was committed with the first half of its effects."""
    deliver(*steps(event, 1))
    with playing(**{consumer: committing}):
        dispatch()
    row = Delivery.objects.get(consumer__endswith=f".{consumer}")
    assert (row.state, row.attempts, "second half of the work" in row.error) == ("ready", 1, True)


@pytest.mark.postgres
@each_way
def test_a_commit_by_the_driver_is_a_failed_attempt(consumer, event):
    """PostgreSQL says that no transaction is open."""
    deliver(*steps(event, 1))
    with playing(**{consumer: lambda _: by_the_driver("COMMIT")}):
        dispatch()
    assert "ended its transaction by itself" in DeliveryAttempt.objects.get().error


@pytest.mark.server
@each_way
@pytest.mark.parametrize("method", ["commit", "rollback"])
def test_a_method_of_the_driver_is_refused(consumer, event, method):
    """It would end the transaction unseen, and a statement after it would begin another."""
    deliver(*steps(event, 1))

    def part(_):
        getattr(connection.connection, method)()

    with playing(**{consumer: part}):
        dispatch()
    assert f"calls the database driver's {method}()" in DeliveryAttempt.objects.get().error


@pytest.mark.server
def test_methods_of_the_driver_are_free_after_the_call():
    """Code after a consumer, Django's own included, ends transactions with them."""
    deliver(*steps(Noted, 1))
    dispatch()
    assert {"commit", "rollback"}.isdisjoint(vars(connection.connection))


@pytest.mark.server
@each_way
def test_a_rollback_that_django_does_not_see_is_a_failed_attempt(consumer, event):
    """The next statement begins another transaction, without the mark that the delivery is done."""
    deliver(*steps(event, 1))

    def part(_):
        by_the_driver("ROLLBACK")
        Entry.objects.count()

    with playing(**{consumer: part}):
        dispatch()
    row = Delivery.objects.get(consumer__endswith=f".{consumer}")
    assert (row.state, row.attempts) == ("ready", 1)


def bring_back():
    """Make each delivery ready again, as in a server that has lost the commits of the last minute."""
    Delivery.objects.update(state="ready", attempts=0)


@pytest.mark.server
def test_what_comes_back_while_the_connection_works_was_rolled_back():
    """One attempt counts as failed, and the next one is made."""
    deliver(*steps(Noted, 1))
    dispatch()
    bring_back()
    first = dispatch()
    Delivery.objects.update(due_at=None)  # the wait is over
    second = dispatch()
    assert (first.failed, first.done, second.failed, second.done) == (2, 0, 0, 2)


@pytest.mark.server
def test_what_comes_back_after_a_lost_connection_is_handled_again():
    """A failover to a server that was behind is no fault of a consumer."""
    deliver(*steps(Noted, 1))
    dispatch()
    bring_back()
    connection.errors_occurred = True
    renew_connections()
    dispatch()
    assert ({*delivery_states()}, DeliveryAttempt.objects.count()) == ({"done"}, 0)


def test_effects_before_a_rollback_in_a_batch_are_not_lost():
    """The others of the batch are handled again: none is marked without its effects."""
    deliver(*(Counted(order=str(number), number=number) for number in range(1, 6)))

    def part(event):
        if event.number == 3:
            by_the_driver("ROLLBACK")

    with playing(count=part):
        dispatch()
    kept = set(Entry.objects.filter(consumer="count").values_list("number", flat=True))
    assert {1, 2, 4, 5} <= kept


@pytest.mark.mariadb
@pytest.mark.parametrize(
    "statement", ["TRUNCATE shop_entry", "create table x (id int)", "LOCK TABLES"]
)
def test_a_statement_that_commits_implicitly_is_a_failed_attempt(statement):
    """MySQL and MariaDB commit before such statements."""
    deliver(*steps(Counted, 1))
    with playing(count=executing(statement)):
        dispatch()
    assert (DeliveryAttempt.objects.count(), entries("count")) == (1, [])


@pytest.mark.catch_up
@pytest.mark.usefixtures("boarded")
@ENDS
def test_a_projection_that_ends_its_transaction_backs_off(statement):
    """Its checkpoint is in that transaction."""
    put(Scored(player="ann", points=1), stream="ann")
    with playing(add=executing(statement)):
        update_projections(get_context("board"))
    error = Checkpoint.objects.get(subscription="high_score").error
    assert ("ends the transaction" in error, HighScore.objects.exists()) == (True, False)
