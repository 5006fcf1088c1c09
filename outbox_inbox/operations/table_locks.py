"""Locks on whole tables, taken in short attempts until one succeeds.

A session that waits for such a lock makes all later writers of the table wait behind it: one long
transaction elsewhere would stop every writer. So each attempt gives up after less than a second.
"""

import random
import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import table
from outbox_inbox.queues.statements.dialects import dialect, gave_way
from outbox_inbox.queues.statements.lock_waits import limited_lock_wait

T = TypeVar("T")

LOCK_TIMEOUT: Final = 0.9
"""Seconds. Below PostgreSQL's deadlock_timeout: in a deadlock this session is the one to give up."""

PATIENCE: Final = 60.0
"""Seconds after which a lock that cannot be had is reported."""


def lock_tables(connection: BaseDatabaseWrapper, locked: Iterable[type[models.Model]]) -> None:
    """Block writers of tables until the end of the open transaction; readers are not blocked."""
    dialect(connection).lock_tables(connection, [table(model) for model in locked])


def retry_until_locked(using: str, change: Callable[[BaseDatabaseWrapper], T]) -> T:
    """Call a function that locks tables, in a transaction of its own; repeat it until it succeeds.

    Raises:
        OutboxInboxError: the locks could not be had for a minute.
    """
    deadline = monotonic() + PATIENCE
    connection = connections[using]
    while True:
        try:
            with transaction.atomic(using=using), limited_lock_wait(connection, LOCK_TIMEOUT):
                return change(connection)
        except OperationalError as error:
            if not gave_way(connection, error):
                raise
        if monotonic() > deadline:
            raise OutboxInboxError(
                f"a transaction on the database {using!r} has been open for {PATIENCE:.0f} s and "
                "holds a lock that is needed. End it, and run the same command again"
            )
        # Random: two commands that collide do not collide again.
        time.sleep(random.uniform(0.05, 0.5))  # noqa: S311
