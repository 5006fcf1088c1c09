"""A bound for the time that a statement waits for a lock.

Another transaction may hold the lock for as long as it likes, and whatever wants it later waits
behind the statement that waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

_LIMITS = {
    "postgresql": ("SET LOCAL lock_timeout = '{seconds}s'", ""),  # it ends with the transaction
    "mysql": (
        "SET @outbox_inbox = @@innodb_lock_wait_timeout, innodb_lock_wait_timeout = {whole}",
        "SET innodb_lock_wait_timeout = @outbox_inbox",  # it is the session's
    ),
}
"""Vendor -> the statements that begin and end a limit."""


@contextmanager
def limited_lock_wait(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Let no statement of this block, in an open transaction, wait longer for a lock.

    ``seconds``: MySQL and MariaDB round it up to whole ones; on PostgreSQL it counts until the end
    of the transaction. On SQLite a transaction waits before its first statement only.

    Such a statement fails with an error of which ``gave_way`` says that it has waited.
    """
    begin, end = _LIMITS.get(connection.vendor, ("", ""))
    if begin:
        _execute(connection, begin.format(seconds=seconds, whole=ceil(seconds)))
    try:
        yield
    except BaseException:
        if end:
            with suppress(DatabaseError):  # the connection may be what failed
                _execute(connection, end)
        raise
    if end:
        _execute(connection, end)


def _execute(connection: BaseDatabaseWrapper, statement: str) -> None:
    # Not Django's cursor: it refuses statements in a transaction that is to be rolled back, and the
    # session would keep the limit.
    with connection.wrap_database_errors, connection.connection.cursor() as cursor:
        cursor.execute(statement)
