"""Statements stay below ``max_allowed_packet``, however large messages are together."""

import pytest
from django.db import connection

from outbox_inbox.models import InboxMessage, OutboxMessage, QuarantinedMessage, StoredEvent
from outbox_inbox.queues.statements.packets import PACKET, packets
from tests.shop.contracts import Sold
from tests.support.arriving import arriving, bring, inbox
from tests.support.movers import put
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")

COUNT = 40
QUOTES = 250_000 // 2  # each takes two bytes in JSON, and four in a statement


@pytest.fixture
def statements():
    """The size of each statement that inserts into a table, as the server gets it."""
    sizes = []

    def note(execute, sql, parameters, many, context):
        result = execute(sql, parameters, many, context)
        if sql.startswith("INSERT"):
            sent = context["cursor"].cursor._executed
            sizes.append(len(sent))
        return result

    with connection.execute_wrapper(note):
        yield sizes


def one_at_least(size):
    """Return how large a statement may be with messages of this size: one of them always is in it."""
    return max(PACKET, 2 * size) + 10_000


# Splitting


def test_small_rows_go_together():
    """As many as one statement may have."""
    assert [len(each) for each in packets(["x"] * 1_001, tuple, 500)] == [500, 500, 1]


def test_large_rows_are_split_by_the_bytes_that_a_statement_takes():
    """Text may be twice as long within quotes, and bytes as well."""
    rows = ["x" * 200_000, "é" * 100_000, b"\\0" * 200_000, "x" * 300_000, "x"]
    assert [len(each) for each in packets(rows, lambda row: [row], 500)] == [2, 1, 2]


def test_a_row_that_is_larger_than_a_packet_goes_alone():
    """Whether the server takes it is not for us to decide."""
    rows = ["x", "x" * PACKET, "x"]
    assert [len(each) for each in packets(rows, lambda row: [row], 500)] == [1, 1, 1]


# On the servers that have the limit


@pytest.mark.mariadb
@pytest.mark.mysql
def test_many_large_messages_that_are_refused_stop_no_intake(statements, settings):
    """All of them are quarantined, and the good one behind them arrives."""
    settings.OUTBOX_INBOX = {**WIRE}
    hostile = [
        arriving(number, data=b"\\0'" * 131_072, headers='"' * 125_000)
        for number in range(1, COUNT + 1)
    ]
    bring(*hostile, arriving(COUNT + 1))
    assert (QuarantinedMessage.objects.count(), inbox()) == (COUNT, [COUNT + 1])
    assert max(statements) < one_at_least(2 * 131_072 + 2 * 125_000)


@pytest.mark.mariadb
@pytest.mark.mysql
def test_many_large_messages_are_received_in_several_statements(statements, settings):
    """Each is below the limit."""
    settings.OUTBOX_INBOX = {**WIRE}
    data = [b'{"number":%d,"order":"%b"}' % (number, b'\\"' * QUOTES) for number in range(COUNT)]
    bring(*[arriving(number, data=each) for number, each in enumerate(data, 1)])
    assert InboxMessage.objects.count() == COUNT
    assert max(statements) < one_at_least(len(data[-1]))


@pytest.mark.mariadb
@pytest.mark.mysql
def test_many_large_events_are_recorded_in_several_statements(statements, settings):
    """One call may record any number of them, without a stream and in one."""
    settings.OUTBOX_INBOX = {**WIRE}
    events = [Sold(order='"' * QUOTES, number=number) for number in range(COUNT)]
    put(*events, key="a")
    put(*events, key="a", stream="s")
    assert (OutboxMessage.objects.count(), StoredEvent.objects.count()) == (2 * COUNT, COUNT)
    assert max(statements) < one_at_least(2 * QUOTES + 100)
