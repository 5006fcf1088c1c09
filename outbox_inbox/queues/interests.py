"""Who listens, and to what, as the database knows it: written by ``migrate``, confirmed by processes.

In a deployment, processes of the old code and of the new code run side by side. Were deliveries made
for the consumers that the moving process has, the old code would move a message, and the consumer
that only the new code has would never get it. So each process stores what its code has before it
records or moves a message, and whatever moves a message makes deliveries for all that is stored.

A consumer that no running process confirms for `RETIRE_AFTER` is retired: it gets no more
deliveries. What it left unfinished stays, and is reported.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import NamedTuple

from django.db import DatabaseError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.contexts.consumers import hash_of
from outbox_inbox.events import meta
from outbox_inbox.models import Interest, InterestKind

from .schema import require_schema
from .statements.dialects import as_datetime, database_time

CONFIRM_AFTER = timedelta(seconds=30)
"""How often the running processes, together, say what their code has."""

RETIRE_AFTER = timedelta(minutes=10)
"""What no process has confirmed for so long is retired, by one that has run for as long."""

_logger = logging.getLogger("outbox_inbox.interests")


class InterestRow(NamedTuple):
    """An interest that the code of this process has; the fields are columns of `Interest`."""

    context: str
    kind: InterestKind
    name: str
    type: str
    schema_version: int
    alias: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """Return what there is once."""
        return self[:4]


@dataclass(slots=True)
class _Confirmed:
    """What this process has stored in a database."""

    contexts: Sequence[Context]
    since: float
    at: float


@dataclass(slots=True)
class _Changes:
    """What there is to write so that the database knows the interests of this process."""

    missing: list[InterestRow] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    changed: list[tuple[int, InterestRow]] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    silent: list[Interest] = field(default_factory=list)

    @property
    def urgent(self) -> bool:
        """Whether a message would be lost without them."""
        return bool(self.missing or self.revived or self.changed)


_confirmed: dict[str, _Confirmed] = {}
"""By alias of a database."""

_uncommitted: dict[str, Sequence[Context]] = {}
"""Databases to which interests were written in a transaction that may be rolled back."""


def declared(using: str) -> Iterator[InterestRow]:
    """Yield the interests of this process's code that belong into a database."""
    for context in contexts():
        if context.database == using:
            yield from _own_interests(context)
        yield from _remote_subscriptions(context, using)


def confirm_interests(using: str) -> None:
    """Store what this process's code has, unless that was done a moment ago.

    Called by every mover before it moves anything. It retires what no process has any more.
    """
    require_schema(using)
    found, known = contexts(), _confirmed.get(using)
    if known and known.contexts is found and monotonic() - known.at < CONFIRM_AFTER.total_seconds():
        return
    changes = _changes(using)
    try:
        _write(using, changes)
    except DatabaseError:
        # Nothing depends on it at once; another process may do the same at this moment.
        if changes.urgent or connections[using].in_atomic_block:
            raise
    lasting = known and known.contexts is found and monotonic() - known.since
    if lasting and lasting > RETIRE_AFTER.total_seconds():
        _retire(using, changes.silent)
    _note_confirmed(using, found)


def require_interests(context: Context) -> None:
    """Store what this process's code has, in the transaction that is about to record a message.

    A process that only records does so with its first message, and again when it may have been
    taken for gone. In between, its interests are confirmed after a commit.
    """
    using, found = context.database, contexts()
    require_schema(using)
    known = _confirmed.get(using)
    age = monotonic() - known.at if known and known.contexts is found else float("inf")
    if age < CONFIRM_AFTER.total_seconds():
        return
    connection = connections[using]
    if age < RETIRE_AFTER.total_seconds() / 2 or (known and _in_test_case(connection)):
        transaction.on_commit(partial(confirm_interests, using), using=using, robust=True)
        return
    changes = _changes(using)
    if changes.urgent:
        _write(using, changes)
    _note_confirmed(using, found)


def store_interests(using: str) -> None:
    """Store what this process's code has: called after ``migrate``."""
    if router.allow_migrate_model(using, Interest):
        _write(using, _changes(using))
        _note_confirmed(using, contexts())


def _own_interests(context: Context) -> Iterator[InterestRow]:
    label = context.label
    for consumer in context.consumers.values():
        for type_name, version in consumer.versions.items():
            yield InterestRow(label, InterestKind.CONSUMER, consumer.name, type_name, version)
    for name, version in _subscribed_versions(context):
        yield InterestRow(label, InterestKind.CONTRACT, "", name, version)
    for model in context.read_models.values():
        for type_name, version in model.versions.items():
            yield InterestRow(label, InterestKind.PROJECTION, model.name, type_name, version)


def _subscribed_versions(context: Context) -> Iterator[tuple[str, int]]:
    for name in sorted(context.subscribed):
        yield name, meta(context.events[name]).version


def _remote_subscriptions(context: Context, using: str) -> Iterator[InterestRow]:
    """Yield what a context in another database wants from the contexts in this one.

    Without a broker between them the relay asks its own database who subscribes.
    """
    if context.database == using:
        return
    sources = {each.label for each in contexts() if each.database == using}
    for name, version in _subscribed_versions(context):
        if name.partition(".")[0] in sources:
            yield InterestRow(
                context.label, InterestKind.CONTRACT, "", name, version, context.database
            )


def _changes(using: str) -> _Changes:
    wanted = {row.identity: row for row in declared(using)}
    stored = Interest.objects.using(using).filter(context__in=[each.label for each in contexts()])
    connection, changes = connections[using], _Changes()
    now = database_time(connection)
    for row in stored.order_by("id"):
        age = now - as_datetime(connection, row.confirmed_at)
        mine = wanted.pop((row.context, row.kind, row.name, row.type), None)
        if mine is None:
            if row.retired_at is None and age > RETIRE_AFTER:
                changes.silent.append(row)
        elif not row.renamed_to:
            if row.retired_at is not None:
                changes.revived.append(row.pk)
            if row.schema_version < mine.schema_version or row.alias != mine.alias:
                changes.changed.append((row.pk, mine))
            if age > CONFIRM_AFTER:
                changes.stale.append(row.pk)
    changes.missing += wanted.values()
    return changes


def _write(using: str, changes: _Changes) -> None:
    connection, rows = connections[using], Interest.objects.using(using)
    if changes.urgent and connection.in_atomic_block:
        _uncommitted[using] = contexts()
        transaction.on_commit(partial(_uncommitted.pop, using, None), using=using)
    if not (changes.urgent or changes.stale):
        return
    now = database_time(connection)
    if changes.missing:
        # Another process of the same code may store them at this moment.
        rows.bulk_create(map(partial(_interest, now), changes.missing), ignore_conflicts=True)
    for key, mine in changes.changed:
        rows.filter(pk=key).update(alias=mine.alias)
        older = rows.filter(pk=key, schema_version__lt=mine.schema_version)
        older.update(schema_version=mine.schema_version)
    if changes.revived or changes.stale:
        again = rows.filter(pk__in=sorted({*changes.revived, *changes.stale}), renamed_to="")
        again.update(confirmed_at=now, retired_at=None)


def _interest(now: datetime, row: InterestRow) -> Interest:
    return Interest(**row._asdict(), hash=hash_of(row.name), confirmed_at=now)


def _retire(using: str, rows: Iterable[Interest]) -> None:
    for row in rows:
        # Another process may have confirmed it since it was read.
        same = Interest.objects.using(using).filter(pk=row.pk, confirmed_at=row.confirmed_at)
        if same.update(retired_at=database_time(connections[using])):
            _logger.warning(
                "%s: no running process has %s %r of %s any more; it gets no more messages",
                row.context,
                InterestKind(row.kind).label,
                row.name or row.type,
                row.type,
            )


def _note_confirmed(using: str, found: Sequence[Context]) -> None:
    """Remember that the database knows the interests of this process."""
    if _uncommitted.get(using) is found and connections[using].in_atomic_block:
        return  # a rollback would undo it, and this process would not store them again
    _uncommitted.pop(using, None)
    known, now = _confirmed.get(using), monotonic()
    since = known.since if known and known.contexts is found else now
    _confirmed[using] = _Confirmed(found, since, now)


def _in_test_case(connection: BaseDatabaseWrapper) -> bool:
    # A test may count the statements of what it calls, and runs for less time than a deployment.
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
