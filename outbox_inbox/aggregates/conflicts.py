"""``@retry_on_conflict``: a use case decides again when another transaction was faster."""

import functools
import inspect
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, ParamSpec, TypeVar, overload

from django.db import DatabaseError, connections

from outbox_inbox.conf import Backoff
from outbox_inbox.exceptions import ConcurrencyError
from outbox_inbox.queues.statements.dialects import gave_way

P = ParamSpec("P")
T = TypeVar("T")

SOON: Final = Backoff(
    first=timedelta(milliseconds=10), factor=2, maximum=timedelta(seconds=1), jitter=0.5
)
"""The pauses between two tries: 5 to 10 ms, then 10 to 20 ms, and so on, at most a second.

They are random: two use cases that met would otherwise meet again at each try.
"""

_pause = time.sleep


@overload
def retry_on_conflict(function: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def retry_on_conflict(
    *, attempts: int = ..., backoff: Backoff = ...
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def retry_on_conflict(
    function: Callable[P, T] | None = None, /, *, attempts: int = 5, backoff: Backoff = SOON
) -> Callable[P, T] | Callable[[Callable[P, T]], Callable[P, T]]:
    """Call the function again, after a short pause, when it raises `ConcurrencyError`.

    Put it above ``@transaction.atomic``, so that each try is a transaction of its own, which loads
    the newest state and decides again. Effects outside of that transaction are repeated by each try.

    Within an open transaction (a handler's, ``ATOMIC_REQUESTS``, a ``TestCase``) the function is
    called once, and the error is raised with a note: what that transaction has read and written
    belongs to the old state, so it has to be begun again as a whole. The dispatcher does that: it
    retries the delivery.

    A deadlock counts as a conflict too, and so does a serialization failure on PostgreSQL.

    Arguments:
        attempts: the most tries, the first included: 1 to 1,000; default 5.
        backoff: the pauses between them; default `SOON`.

    Raises:
        ConcurrencyError: from the last try.
        TypeError: the function is a coroutine or a generator, which works after the call.
        ValueError: ``attempts`` is outside its range.
    """
    if type(attempts) is not int or not 1 <= attempts <= 1000:
        raise ValueError(f"attempts is a whole number from 1 to 1000, not {attempts!r}")

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        _require_function(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            left, attempt = 1 if _in_transaction() else attempts, 0
            while True:
                left, attempt = left - 1, attempt + 1
                try:
                    return function(*args, **kwargs)
                except (ConcurrencyError, DatabaseError) as error:
                    if not (left and _is_conflict(error)):
                        if isinstance(error, ConcurrencyError):
                            error.add_note(_why_not_again(function, attempts))
                        raise
                _pause(backoff.delay(attempt).total_seconds())

        return call

    return decorate if function is None else decorate(function)


def _require_function(function: Callable[P, T]) -> None:
    if not callable(function):
        raise TypeError(f"@retry_on_conflict is for functions, not for {function!r}")
    of_inspect = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    if any(works_later(function) for works_later in of_inspect):
        raise TypeError(
            f"{_name(function)} is a coroutine or a generator: its work is done after the call, "
            "where @retry_on_conflict does not see it. Decorate the function that does the work"
        )


def _why_not_again(function: object, attempts: int) -> str:
    # Asked after the try has ended its own transaction: one that is open now is the caller's.
    if not _in_transaction():
        return f"{_name(function)} was tried {attempts} times (@retry_on_conflict)"
    return (
        f"{_name(function)} was called within an open transaction, so @retry_on_conflict "
        "did not try it again: the code that opened the transaction has to begin it again. "
        "If that is your code, put the decorator above the outermost @transaction.atomic"
    )


def _in_transaction() -> bool:
    return any(
        each.in_atomic_block or (each.connection is not None and not each.autocommit)
        for each in connections.all(initialized_only=True)
    )


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, ConcurrencyError) or any(
        gave_way(each, error, waited=False) for each in connections.all(initialized_only=True)
    )


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", repr(function)))
