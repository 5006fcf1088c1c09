"""Watches what a consumer does to its transaction, which has the mark that its delivery is done.

Its effects and the mark are committed together. A consumer that ended the transaction by itself would
commit the mark before its effects, or lose effects that were marked, in silence.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import HandlerError

from .blame import note_raised
from .statements.dialects import dialect_class, error_chain, gave_way
from .statements.dialects.refusals import blames_our_tables, blames_server

T = TypeVar("T")

_ENDS = re.compile(
    r"\s*(COMMIT|END|ABORT|ROLLBACK(?!\s+(WORK\s+)?TO)|BEGIN|START)\b", re.IGNORECASE
)
_METHODS = ("commit", "rollback")


def call_watched(connection: BaseDatabaseWrapper, title: str, function: Callable[[], T]) -> T:
    """Call a consumer, and return what it returned.

    Arguments:
        title: how an error names the consumer.

    Raises:
        HandlerError: it has ended its transaction, or marked it for a rollback.
        django.db.OperationalError: a deadlock that the consumer has caught itself, on MySQL. It has
            undone everything, the claim of the delivery included, and what the consumer did
            afterwards would be committed.
        Exception: whatever it raises.
    """
    watch = _Watch(connection, title)
    made: list[T] = []
    error: Exception | None = None
    with connection.execute_wrapper(watch), watch.refusing_methods():
        try:
            made.append(function())
        except Exception as raised:  # noqa: BLE001  raised below, unless another came first
            error = raised
    watch.raise_first()
    if error is not None:
        note_raised(error, outage=watch.outage_behind(error))
        raise error
    try:
        _refuse_broken_transaction(connection, title)
    except HandlerError as broken:
        # By an outage that the consumer has caught, as it would any error.
        note_raised(broken, outage=watch.outages[-1] if watch.outages else None)
        raise
    return made[0]


class _Watch:
    """Sees each statement of a consumer that goes through Django."""

    def __init__(self, connection: BaseDatabaseWrapper, title: str) -> None:
        self._connection, self._title = connection, title
        self._dialect = dialect_class(connection)
        self._error: Exception | None = None
        self.outages: list[DatabaseError] = []

    def __call__(self, execute: Any, sql: Any, parameters: Any, many: Any, context: Any) -> Any:
        # Refused, not reported afterwards: what a rollback has undone cannot be brought back.
        if isinstance(sql, str) and (_ENDS.match(sql) or self._dialect.commits_implicitly(sql)):
            self._refuse(f"executes {' '.join(sql.split()[:2])}")
        try:
            return execute(sql, parameters, many, context)
        except DatabaseError as error:
            if self._dialect.deadlocks_roll_back and gave_way(
                self._connection, error, waited=False
            ):
                self._error = self._error or error
            # Seen here, where it is known to be of the context's own database: an outage of another
            # one that the consumer uses is met by its own messages only.
            if blames_server(self._connection, error) or blames_our_tables(self._connection, error):
                self.outages.append(error)
            raise

    def outage_behind(self, error: Exception) -> DatabaseError | None:
        """Return the outage of the context's database that an error of the consumer comes from."""
        chain = list(error_chain(error))
        return next((each for each in self.outages if each in chain), None)

    @contextmanager
    def refusing_methods(self) -> Iterator[None]:
        """Refuse the methods of the driver's connection that end a transaction, within the block.

        Of SQLite's, nothing can be replaced; there the COMMIT or the end of a savepoint fails.
        """
        # Not setattr and delattr: of mysqlclient's connections no attribute can be deleted again.
        own: dict[str, Any] = getattr(self._connection.connection, "__dict__", {})
        own |= {name: self._refusing(name) for name in _METHODS}
        try:
            yield
        finally:
            for name in _METHODS:
                del own[name]

    def _refusing(self, name: str) -> Callable[[], NoReturn]:
        return lambda: self._refuse(f"calls the database driver's {name}()")

    def _refuse(self, what: str) -> NoReturn:
        self._error = HandlerError(
            f"{self._title} {what}, which ends the transaction that its delivery is marked in: its "
            "effects could be lost, or happen twice"
        )
        raise self._error

    def raise_first(self) -> None:
        """Raise the error that counts, even if the consumer has caught it."""
        if self._error is not None:
            raise self._error


def _refuse_broken_transaction(connection: BaseDatabaseWrapper, title: str) -> None:
    """Fail a consumer whose transaction will not commit, although it raised nothing.

    `set_rollback(True)` ends an atomic block without an exception, and after a swallowed
    DatabaseError PostgreSQL answers COMMIT with a ROLLBACK, without an error: the delivery would
    count as done, with none of its effects.
    """
    driver: Any = connection.connection
    kind = dialect_class(connection)
    if driver is not None and kind.is_ended(driver):
        raise HandlerError(
            f"{title} ended its transaction by itself, with a method of the database driver: its "
            "effects could be lost, or happen twice"
        )
    if connection.needs_rollback or driver is None or kind.is_aborted(driver):
        raise HandlerError(
            f"{title} left its transaction marked for rollback: it called set_rollback(), "
            "or caught a database error without a savepoint (transaction.atomic()) around it"
        )
