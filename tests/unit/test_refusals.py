"""What an error of a database is about: one row, one of our tables, or the server."""

from types import SimpleNamespace

import pytest
from django.db import DataError, IntegrityError, InternalError, OperationalError, ProgrammingError
from django.db.transaction import TransactionManagementError

from outbox_inbox.queues.blame import close_refusing, note_raised, outage_behind
from outbox_inbox.queues.statements.dialects.refusals import (
    blames_our_tables,
    blames_server,
    blames_values,
)

OURS, THEIRS = "outbox_inbox_outboxmessage", "shop_entry"
"""The database of a handler's own table may be called like our app."""


class Driver(Exception):
    """An error of a driver, with the code that PostgreSQL gave it."""

    def __init__(self, sqlstate):
        super().__init__("refused")
        self.sqlstate = sqlstate


class Connection(SimpleNamespace):
    """A connection of a vendor, which notes that it was closed."""

    closed = False

    def close(self):
        self.closed = True


def of(vendor, *, open_transaction=False):
    """Return a connection of a vendor."""
    return Connection(vendor=vendor, in_atomic_block=open_transaction)


def postgres(sqlstate, text="refused"):
    """Return an error as Django raises it from that of psycopg."""
    error = ProgrammingError(text)
    error.__cause__ = Driver(sqlstate)
    return error


def mysql(number, text="refused"):
    """Return an error as mysqlclient raises it."""
    return OperationalError(number, text)


SERVER = [
    *(("postgresql", postgres(state)) for state in ("25006", "53100", "53300", "57P03", "28P01")),
    *(("mysql", mysql(number)) for number in (1290, 1836, 1040, 1203, 1021, 1114, 1045, 3100)),
    ("sqlite", OperationalError("attempt to write a readonly database")),
    ("sqlite", OperationalError("database or disk is full")),
    ("sqlite", OperationalError("unable to open database file")),
]
TABLES = [
    ("postgresql", lambda table: postgres("42P01", f'relation "{table}" does not exist')),
    ("postgresql", lambda table: postgres("42501", f"permission denied for table {table}")),
    ("mysql", lambda table: mysql(1146, f"Table 'outbox_inbox_test.{table}' doesn't exist")),
    ("mysql", lambda table: mysql(1142, f"INSERT command denied to user for table `{table}`")),
    ("sqlite", lambda table: OperationalError(f"no such table: {table}")),
    ("sqlite", lambda table: OperationalError(f"table {table} has no column named x")),
]
VALUES = [
    ("postgresql", DataError("invalid byte sequence")),
    ("postgresql", postgres("54000")),
    ("mysql", IntegrityError(1062, "duplicate")),
    ("mysql", mysql(1366)),
    ("mysql", mysql(1153)),
    ("sqlite", DataError("string or blob too big")),
]


@pytest.mark.parametrize(("vendor", "error"), SERVER)
def test_a_server_that_takes_nothing_is_an_outage_whatever_was_asked(vendor, error):
    """Each vendor says it in its own way."""
    assert blames_server(of(vendor), error)
    assert outage_behind(of(vendor), error) is error
    assert outage_behind(of(vendor), error, committing=True) is error


@pytest.mark.parametrize(("vendor", "make"), TABLES)
def test_only_our_own_tables_concern_every_message(vendor, make):
    """A handler's own table is missed by its own messages."""
    assert blames_our_tables(of(vendor), make(OURS))
    assert not blames_our_tables(of(vendor), make(THEIRS))


@pytest.mark.parametrize(("vendor", "error"), VALUES)
def test_values_are_the_fault_of_their_message(vendor, error):
    """The next message has others."""
    assert blames_values(of(vendor), error)
    assert outage_behind(of(vendor), error) is None


@pytest.mark.parametrize(
    ("vendor", "error"),
    [
        ("postgresql", postgres("25P02")),
        ("postgresql", postgres("3B001")),
        ("mysql", mysql(1305)),
        ("sqlite", OperationalError("no such savepoint: s1")),
        ("sqlite", TransactionManagementError("You can't execute queries")),
    ],
)
def test_a_transaction_that_a_consumer_ended_is_the_fault_of_its_message(vendor, error):
    """Our next statement meets what the consumer did."""
    assert outage_behind(of(vendor), error) is None


def test_whatever_else_our_own_statements_meet_is_an_outage():
    """A mistake in our SQL, or an option that it depends on."""
    error = mysql(1267, "Illegal mix of collations")
    assert outage_behind(of("mysql"), error) is error


def test_what_a_consumer_raised_is_the_fault_of_its_message():
    """Unless an outage of the context's database is behind it."""
    error, outage = ProgrammingError("syntax error"), InternalError("read-only")
    note_raised(error, outage=None)
    assert outage_behind(of("postgresql"), error) is None
    wrapped = ValueError("no order")
    note_raised(wrapped, outage=outage)
    assert outage_behind(of("postgresql"), wrapped) is outage


def test_a_commit_runs_what_a_consumer_has_deferred():
    """A trigger of its own that refuses the commit is not an outage."""
    assert outage_behind(of("postgresql"), postgres("P0001"), committing=True) is None


@pytest.mark.parametrize(
    ("error", "in_transaction", "closed"),
    [
        (postgres("25006"), False, True),
        (postgres("25006"), True, False),
        (postgres("42601"), False, False),
    ],
    ids=["read-only", "in a transaction", "another error"],
)
def test_a_session_that_outlives_a_failover_is_closed(error, in_transaction, closed):
    """It would be read-only for ever; what a transaction holds is left to that."""
    connection = of("postgresql", open_transaction=in_transaction)
    close_refusing(connection, error)
    assert connection.closed is closed
