"""Locks whole tables without standing in anybody's way: in short tries, until one succeeds."""

import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import table
from outbox_inbox.queues.statements.dialects import dialect

T = TypeVar("T")

LOCK_TIMEOUT: Final = 0.9
"""Seconds. Below PostgreSQL's deadlock_timeout: in a circle of locks it is us who give way."""

PATIENCE: Final = 60.0
"""Seconds after which a lock that cannot be had is reported."""


def lock(connection: BaseDatabaseWrapper, locked: Iterable[type[models.Model]]) -> None:
    """Keep writers away from tables until the end of the open transaction; readers may go on."""
    dialect(connection).lock_tables(connection, [table(model) for model in locked])


def patiently(using: str, work: Callable[[BaseDatabaseWrapper], T]) -> T:
    """Run work that locks whole tables in a transaction; give way to others and try again.

    Whoever waits for such a lock has all later writers wait behind him: so no try is long.

    Raises:
        OutboxInboxError: the locks could not be had for a minute.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(_Busy):
            return _try(using, work)
        if time.monotonic() > deadline:
            raise OutboxInboxError(
                f"a transaction on the database {using!r} has been open for {PATIENCE:.0f} s and "
                "holds a lock that is needed. End it, and run the same command again"
            )
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - so that two do not meet again


class _Busy(Exception):
    """A lock could not be had in time."""


def _try(using: str, work: Callable[[BaseDatabaseWrapper], T]) -> T:
    connection = connections[using]
    try:
        with transaction.atomic(using=using):
            dialect(connection).limit_lock_wait(connection, LOCK_TIMEOUT)
            return work(connection)
    except OperationalError as error:
        # lock_not_available, deadlock_detected
        if getattr(error.__cause__, "sqlstate", None) in {"55P03", "40P01"}:
            raise _Busy from error
        raise
