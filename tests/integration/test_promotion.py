"""What comes due becomes available a part at a time, and in the order in which it is to be sent."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import OutboxMessage, Queue
from outbox_inbox.queues import outcome, run, statements
from outbox_inbox.queues.partitions import partition_statuses
from outbox_inbox.queues.statements import states as state_statements
from tests.shop.events import Noted
from tests.support.movers import dispatch, entries, put, relay, steps

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def small(monkeypatch, settings):
    """Let a run make two rows available at a time, or four of one instant."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 2}
    monkeypatch.setattr(run, "_PROMOTED", 2)
    monkeypatch.setattr(state_statements, "_TIED", 4)


def put_due(count, apart=timedelta(0)):
    """Record messages of one key that have come due, each so much after the one before."""
    put(*steps(Noted, range(1, count + 1)), at=timezone.now() + timedelta(hours=1))
    rows = OutboxMessage.objects.order_by("pk")
    first = timezone.now() - timedelta(hours=1)
    for number, row in enumerate(rows):
        OutboxMessage.objects.filter(pk=row.pk).update(due_at=first + number * apart)


def promote(size):
    """Make as many rows of the shop's outbox available; return the ids of those that are."""
    with transaction.atomic():
        statements.promote_due(connection, OutboxMessage, "shop", 0, size)
    rows = OutboxMessage.objects.filter(due_at=None).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def test_the_earliest_become_available_first():
    """A million that come due at once would keep the partition locked for a minute."""
    put_due(5, apart=timedelta(seconds=-1))
    ids = list(OutboxMessage.objects.order_by("pk").values_list("pk", flat=True))
    assert promote(2) == ids[3:]
    assert promote(2) == ids[1:]


@pytest.mark.usefixtures("small")
def test_what_is_due_at_one_instant_keeps_its_order():
    """Also where the database finds the first ones last, and part of them at a time."""
    put_due(9)
    for row in OutboxMessage.objects.order_by("-pk"):
        # On PostgreSQL it moves a row to the end of the table, and of its part of the index.
        OutboxMessage.objects.filter(pk=row.pk).update(error="moved", holds=False)
    ids = list(OutboxMessage.objects.order_by("pk").values_list("pk", flat=True))
    assert promote(2) == ids[:4]
    assert promote(2) == ids[:8]


@pytest.mark.usefixtures("small")
def test_everything_that_is_due_is_sent_in_one_run(monkeypatch):
    """It goes on as long as its turn lasts and there is more."""
    monkeypatch.setattr(outcome, "TURN", 3600)
    put_due(9, apart=timedelta(seconds=1))
    seen = partition_statuses(get_context("shop"), Queue.OUTBOX)
    assert relay(seen=seen).done == 9
    dispatch()
    assert entries() == [*range(1, 10)]


def test_what_was_cancelled_meanwhile_is_not_sent():
    """It was found due, and an operator or a use case was faster."""
    put_due(1)

    def withdraw(execute, sql, parameters, many, context):
        found = execute(sql, parameters, many, context)
        if sql.startswith("SELECT m.id, m.due_at"):
            rows = context["cursor"].fetchall()
            execute(
                f"UPDATE {OutboxMessage._meta.db_table} SET state = 'discarded'", [], many, context
            )
            context["cursor"].fetchall = lambda: rows
        return found

    with connection.execute_wrapper(withdraw):
        promote(10)
    assert OutboxMessage.objects.filter(due_at=None).count() == 0
