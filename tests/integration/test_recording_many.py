"""``record()`` of many events, and by statements whose parameters go apart from the SQL."""

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from outbox_inbox import record
from outbox_inbox.models import OutboxMessage, StoredEvent
from tests.shop.contracts import Sold
from tests.shop.events import Loose, Noted
from tests.support.movers import put, steps

pytestmark = pytest.mark.usefixtures("committed")

OF_EACH_CALL = {"id", "message_id", "correlation_id", "recorded_at", "key_hash"}


def stored():
    """Return what the outbox holds, in order, without what differs between two calls."""
    kept = [each.name for each in OutboxMessage._meta.fields if each.name not in OF_EACH_CALL]
    return list(OutboxMessage.objects.order_by("id").values(*kept))


@pytest.mark.parametrize("terms", [{}, {"key": "ÿ"}, {"headers": {"who": "a"}}])
def test_many_events_are_stored_as_each_alone(terms):
    """However many events a call has: what is in the outbox is the same, in the same order."""
    events = [
        each(order=f"å{number}", number=number)
        for number in range(7)
        for each in (Noted, Loose, Sold)
    ]
    for event in events:
        put(event, **terms)
    alone = stored()
    OutboxMessage.objects.all().delete()
    put(*events, **terms)
    assert stored() == alone


def test_many_envelopes_say_what_was_stored():
    """Each envelope has the id and the time of its own row."""
    recorded = put(*steps(Noted, 20))
    rows = OutboxMessage.objects.order_by("id").values_list("message_id", "recorded_at")
    assert [(each.id, each.time) for each in recorded] == list(rows)


def test_many_events_have_one_time_in_stream_and_outbox():
    """An event that was appended with many others has the same time in both places."""
    put(*steps(Noted, 20), stream="a")
    in_stream = StoredEvent.objects.order_by("position").values_list("message_id", "recorded_at")
    in_outbox = OutboxMessage.objects.order_by("id").values_list("message_id", "recorded_at")
    assert list(in_outbox) == list(in_stream)


@pytest.mark.postgres
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_the_zone_of_the_session_does_not_matter(zone, count):
    """PostgreSQL writes a time stamp in the session's zone; the envelope has the same moment."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('TimeZone', %s, true)", [zone])
        recorded = record(*steps(Noted, count))
    rows = OutboxMessage.objects.order_by("id").values_list("recorded_at", flat=True)
    assert [each.time for each in recorded] == list(rows)


@pytest.mark.postgres
def test_an_execute_wrapper_may_record_within_the_insertion():
    """A statement of record() may be run while another of them is between sending and reading."""
    inner = []

    def audit(execute, sql, parameters, many, context):
        result = execute(sql, parameters, many, context)
        if sql.startswith("INSERT") and not inner:
            inner.append(None)  # the inner call comes here as well
            inner[:] = record(*steps(Loose, 3))
        return result

    with connection.execute_wrapper(audit):
        outer = put(*steps(Noted, 2))
    rows = OutboxMessage.objects.order_by("id").values_list("message_id", "recorded_at")
    assert [(each.id, each.time) for each in [*outer, *inner]] == list(rows)


@pytest.mark.postgres
def test_a_new_connection_is_used_after_the_old_one():
    """What is kept for the next statement does not outlive its connection."""
    put(Noted(order="a", number=1))
    connection.close()
    put(Noted(order="a", number=2))
    assert OutboxMessage.objects.count() == 2


@pytest.mark.postgres
def test_a_connection_that_was_closed_in_a_transaction_is_an_error_of_django():
    """Within a transaction whose connection is gone nothing is recorded on another one."""
    with transaction.atomic():
        connection.close()
        with pytest.raises(TransactionManagementError):
            record(Noted(order="a", number=1))
    assert OutboxMessage.objects.count() == 0


@pytest.mark.postgres
def test_statements_are_prepared_where_the_project_wants_it():
    """``prepare_threshold`` in the OPTIONS of the database holds for one event and for many."""
    connection.ensure_connection()
    connection.connection.prepare_threshold = 2
    for number in range(4):
        put(Noted(order="a", number=number))
        put(*steps(Noted, 20))
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = [row[0] for row in cursor.fetchall()]
    connection.close()
    assert sorted("unnest" in each for each in prepared if "outboxmessage" in each) == [False, True]
    assert OutboxMessage.objects.count() == 4 * 21
