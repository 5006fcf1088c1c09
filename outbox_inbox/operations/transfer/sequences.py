"""The sequences that tables take ids from: they must move with the rows, or ids are given out twice."""

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import table
from outbox_inbox.queues.statements.common import fetch_rows

RESERVE = 1_000_000_000
"""Ids that a context may use up between the beginning and the end of its transfer."""


def last_id(connection: BaseDatabaseWrapper, model: type[models.Model]) -> int:
    """Return the last id that was given out or stored; 0 when there was none."""
    key, name = map(connection.ops.quote_name, (str(model._meta.pk.column), table(model)))
    ((stored,),) = fetch_rows(connection, f"SELECT MAX({key}) FROM {name}", [])
    return max(stored or 0, _last_given_out(connection, model))


def set_last_id(connection: BaseDatabaseWrapper, model: type[models.Model], value: int) -> None:
    """Make ``value + 1`` the next id, in the open transaction."""
    if connection.vendor == "postgresql":
        if name := _sequence_name(connection, model):
            # A sequence cannot be at 0: at 1 and not called yet, its next value is 1.
            fetch_rows(connection, "SELECT setval(%s, %s, %s)", [name, value or 1, value > 0])
        return
    change = (value, table(model))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", change)
        if cursor.rowcount == 0 and value:
            cursor.execute("INSERT INTO sqlite_sequence (seq, name) VALUES (%s, %s)", change)


def _last_given_out(connection: BaseDatabaseWrapper, model: type[models.Model]) -> int:
    if connection.vendor != "postgresql":
        statement = "SELECT MAX(seq) FROM sqlite_sequence WHERE name = %s"
        ((found,),) = fetch_rows(connection, statement, [table(model)])
        return int(found or 0)
    if not (name := _sequence_name(connection, model)):
        return 0
    ((value, used),) = fetch_rows(connection, f"SELECT last_value, is_called FROM {name}", [])
    return int(value) if used else 0


def _sequence_name(connection: BaseDatabaseWrapper, model: type[models.Model]) -> str | None:
    parameters = [connection.ops.quote_name(table(model)), model._meta.pk.column]
    ((name,),) = fetch_rows(connection, "SELECT pg_get_serial_sequence(%s, %s)", parameters)
    return None if name is None else str(name)
