"""Shows whether a test has taken back what its database said at some moment.

A database forgets what a test did: Django's ``TestCase`` rolls its transactions back, and
``TransactionTestCase`` empties the tables. What this process keeps beside the database must be
forgotten with it, or the next test meets what this one did.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_save
from django.db.transaction import Atomic

from outbox_inbox.models import Partition

from .partitions import queues_created

_emptied: Counter[str] = Counter()
"""Alias of a database -> how often this process has found its tables empty, or filled by a fixture."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment in the life of a database.

    Fields:
        connection: of the thread that was there.
        block: the innermost transaction that a ``TestCase`` had open there, or None.
        emptied: how often the tables had been emptied by then.
    """

    connection: BaseDatabaseWrapper
    block: Atomic | None
    emptied: int

    @classmethod
    def now(cls, using: str) -> "Moment":
        """Return this moment in the life of a database."""
        connection = connections[using]
        blocks = [
            each for each in connection.atomic_blocks if getattr(each, "_from_testcase", False)
        ]
        return cls(connection, blocks[-1] if blocks else None, _emptied[using])

    @property
    def test(self) -> Hashable:
        """What is the same for all moments of one test, whatever the connection; and outside of tests."""
        return self.connection.alias, self.block, self.emptied

    @property
    def counts(self) -> bool:
        """Whether the database still knows what it knew at that moment, as far as tests go."""
        open_still = self.block is None or self.block in self.connection.atomic_blocks
        return open_still and self.emptied == _emptied[self.connection.alias]


def _note_creation(*, using: str, **_: object) -> None:
    _emptied[using] += 1


def _note_fixture(*, using: str, raw: bool, **_: object) -> None:
    # With serialized_rollback, the partitions come back as rows of a fixture.
    if raw:
        _emptied[using] += 1


queues_created.connect(_note_creation, dispatch_uid="outbox_inbox.queues.moments")
post_save.connect(_note_fixture, sender=Partition, dispatch_uid="outbox_inbox.queues.moments")
