"""Who listens, and to what, as the database knows it: written by ``migrate``, confirmed by processes.

In a deployment, processes of the old code and of the new code run side by side. Were deliveries made
for the consumers that the moving process has, the old code would move a message, and the consumer
that only the new code has would never get it. So each process stores what its code has before it
records or moves a message, and whatever moves a message makes deliveries for all that is stored.

A consumer that no running process confirms for `RETIRE_AFTER` is retired: it gets no more
deliveries. What it left unfinished stays, and is reported.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from django.db import DatabaseError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.contexts.consumers import hash_of
from outbox_inbox.events import meta
from outbox_inbox.models import Interest, InterestKind
from outbox_inbox.signals.logging import get_logger

from .schema import require_schema
from .servers import require_writable
from .statements.dialects import as_datetime, database_time, gave_way, stored_time
from .statements.lock_waits import limited_lock_wait

CONFIRM_AFTER = timedelta(seconds=30)
"""How often the running processes, together, say what their code has."""

RETIRE_AFTER = timedelta(minutes=10)
"""What no process has confirmed for so long is retired, by one that has watched it for as long."""

_GAP = 3 * CONFIRM_AFTER
"""A process that has not looked for so long begins to watch anew: the others may have been cut off too."""

_WAIT = 0.5  # seconds for the transaction of another process that stores the same
_TRIES = 5  # to store interests while other processes store theirs

_logger = get_logger("outbox_inbox.interests")


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
        """Return the columns by which the database knows it."""
        return self[:4]


@dataclass(slots=True)
class _Confirmed:
    """What this process has stored in a database."""

    contexts: Sequence[Context]
    at: float
    """When it last looked, by its own clock."""
    asked: float = float("-inf")
    """When it last asked a transaction to confirm them after its commit."""
    silent: dict[int, tuple[datetime, float]] = field(default_factory=dict)
    """Interests that other code had -> when they were confirmed, and since when this process sees that."""


class _Silent(NamedTuple):
    """An interest as only other code has it; ``mine``: what this process has of it."""

    row: Interest
    mine: InterestRow | None


@dataclass(slots=True)
class _Changes:
    """What there is to write so that the database knows the interests of this process."""

    missing: list[InterestRow] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    changed: list[tuple[int, InterestRow]] = field(default_factory=list)
    stale: list[int] = field(default_factory=list)
    silent: list[_Silent] = field(default_factory=list)

    @property
    def urgent(self) -> bool:
        """Whether a message would be lost without them."""
        return bool(self.missing or self.revived or self.changed)

    def compare(self, row: Interest, mine: InterestRow, age: timedelta) -> None:
        """Note what is to be changed in a row of an interest that this process has."""
        if row.retired_at is not None:
            self.revived.append(row.pk)
        if row.schema_version < mine.schema_version or row.alias != mine.alias:
            self.changed.append((row.pk, mine))
        if age > CONFIRM_AFTER and not _reads_less(mine, row):
            self.stale.append(row.pk)


@dataclass(slots=True)
class _Stored:
    """An on_commit hook: the interests that its transaction has written are now in the database."""

    using: str
    contexts: Sequence[Context]

    def __call__(self) -> None:
        """Note it; what is stale besides is confirmed by the next call that may."""
        at = monotonic() - CONFIRM_AFTER.total_seconds()
        _confirmed[self.using] = _Confirmed(self.contexts, at)

    def is_pending(self) -> bool:
        """Return whether the open transaction has written them, and has not undone it since."""
        # Django drops the hooks of a savepoint, or of a transaction, that is rolled back.
        hooks = [each[1] for each in connections[self.using].run_on_commit]
        return any(isinstance(each, _Stored) and each.contexts is self.contexts for each in hooks)


_confirmed: dict[str, _Confirmed] = {}
"""By alias of a database."""


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
    found = contexts()
    known = _known(using, found)
    if known and monotonic() - known.at < CONFIRM_AFTER.total_seconds():
        return
    if not _Stored(using, found).is_pending():
        # What is not urgent below may fail without a word, and where nothing moves, nothing else writes.
        require_writable(using)
        _store(using, found, known)


def require_interests(context: Context) -> None:
    """Store what this process's code has, in the transaction that is about to record a message.

    A process that only records does so with its first message, and again when it may have been
    taken for gone. In between, its interests are confirmed after a commit.
    """
    using, found, now = context.database, contexts(), monotonic()
    require_schema(using)
    known = _known(using, found)
    age = now - known.at if known else float("inf")
    if age < CONFIRM_AFTER.total_seconds():
        return
    # A test may count the statements and hooks of what it calls; its movers store what it needs.
    if using in _confirmed and _in_test_case(connections[using]):
        return
    if known is None or age > RETIRE_AFTER.total_seconds() / 2:
        if _Stored(using, found).is_pending():
            return
        changes = _changes(using, found)
        if changes.urgent:
            # Nothing else: other processes would wait for its locks until this transaction ends.
            changes.stale.clear()
            _write(using, found, changes)
            return
        known = _confirmed[using] = _Confirmed(found, now - CONFIRM_AFTER.total_seconds())
    if now - known.asked >= CONFIRM_AFTER.total_seconds():
        known.asked = now
        transaction.on_commit(_confirmation(using), using=using, robust=True)


def _confirmation(using: str) -> Callable[[], None]:
    # Not a partial: Django logs a robust hook that fails by its name, and fails itself where it has none.
    def confirm() -> None:
        confirm_interests(using)

    return confirm


def store_interests(using: str) -> None:
    """Store what this process's code has: called after ``migrate``."""
    if router.allow_migrate_model(using, Interest):
        _store(using, contexts(), None)


def _known(using: str, found: Sequence[Context]) -> _Confirmed | None:
    known = _confirmed.get(using)
    return known if known and known.contexts is found else None


def _store(using: str, found: Sequence[Context], known: _Confirmed | None) -> None:
    """Write what the database lacks, and retire what this process has watched for long enough."""
    # Processes that store the same at once may deadlock, or find SQLite locked: one of them commits
    # each time, and the others find its rows at their next try.
    connection = connections[using]
    tries_left = _TRIES
    while True:
        changes, tries_left = _changes(using, found), tries_left - 1
        try:
            _write_soon(using, found, changes)
        except DatabaseError as error:
            if not connection.in_atomic_block and _has_waited(connection, error):
                return  # a use case is storing the same: they are there when its messages are
            if connection.in_atomic_block or (changes.urgent and not tries_left):
                raise
            if changes.urgent:
                continue
        # Whatever is not urgent can wait until the next look.
        break
    if _Stored(using, found).is_pending():
        return  # a rollback would undo it, and this process would not store them again
    now = monotonic()
    watched = known.silent if known and now - known.at < _GAP.total_seconds() else {}
    _confirmed[using] = _Confirmed(found, now, silent=_watch(using, changes.silent, watched))


def _write_soon(using: str, found: Sequence[Context], changes: _Changes) -> None:
    """Write changes without waiting for long: a use case that stores the same may take its time."""
    connection = connections[using]
    if connection.in_atomic_block or not changes.urgent:
        _write(using, found, changes)
        return
    with transaction.atomic(using=using), limited_lock_wait(connection, _WAIT):
        _write(using, found, changes)


def _has_waited(connection: BaseDatabaseWrapper, error: DatabaseError) -> bool:
    return gave_way(connection, error) and not gave_way(connection, error, waited=False)


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


def _changes(using: str, found: Sequence[Context]) -> _Changes:
    wanted = {row.identity: row for row in declared(using)}
    stored = Interest.objects.using(using).filter(context__in=[each.label for each in found])
    connection, changes = connections[using], _Changes()
    now = database_time(connection)
    for row in stored.order_by("id"):
        mine = wanted.pop((row.context, row.kind, row.name, row.type), None)
        if row.retired_at is None and (mine is None or _reads_less(mine, row)):
            changes.silent.append(_Silent(row, mine))
        if mine is not None and not row.renamed_to:
            # The clock of the database may have been put back since.
            changes.compare(row, mine, abs(now - as_datetime(connection, row.confirmed_at)))
    # In one order in all processes, so that they do not wait for each other in a circle.
    changes.missing += sorted(wanted.values())
    return changes


def _reads_less(mine: InterestRow, row: Interest) -> bool:
    """Return whether this code does not confirm that a contract's newest version can be read."""
    return row.kind == InterestKind.CONTRACT and mine.schema_version < row.schema_version


def _write(using: str, found: Sequence[Context], changes: _Changes) -> None:
    connection, rows = connections[using], Interest.objects.using(using)
    if not (changes.urgent or changes.stale):
        return
    now = stored_time(database_time(connection))
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
    if changes.urgent and connection.in_atomic_block:
        transaction.on_commit(_Stored(using, found), using=using, robust=True)


def _interest(now: datetime, row: InterestRow) -> Interest:
    return Interest(**row._asdict(), hash=hash_of(row.name), confirmed_at=now)


def _watch(
    using: str, silent: Sequence[_Silent], watched: dict[int, tuple[datetime, float]]
) -> dict[int, tuple[datetime, float]]:
    """Retire what no process has confirmed while this one has looked; return what it has seen.

    Both clocks must say so. By that of the database alone, a process that comes back first after an
    outage, or after the clock was set, would retire what the others have.
    """
    connection, seen, now = connections[using], {}, monotonic()
    for each in silent:
        row, since = each.row, now
        if row.pk in watched and watched[row.pk][0] == row.confirmed_at:
            since = watched[row.pk][1]
        seen[row.pk] = (row.confirmed_at, since)
        if now - since > RETIRE_AFTER.total_seconds():
            age = database_time(connection) - as_datetime(connection, row.confirmed_at)
            # Confirmed in the future: the clock was put back since. A process that has it would have
            # confirmed it again, and one that has gone would stay until the clock has come up to it.
            if age > RETIRE_AFTER or age < -CONFIRM_AFTER:
                _retire(using, each)
    return seen


def _retire(using: str, silent: _Silent) -> None:
    row, mine = silent
    now = stored_time(database_time(connections[using]))
    # Another process may have confirmed it since it was read.
    same = Interest.objects.using(using).filter(pk=row.pk, confirmed_at=row.confirmed_at)
    if mine is not None:
        same.update(schema_version=mine.schema_version, confirmed_at=now)
    elif same.update(retired_at=now):
        _logger.warning(
            "%s: no running process has %s '%s' of %s any more; it gets no more messages",
            row.context,
            InterestKind(row.kind).label,
            row.name or row.type,
            row.type,
        )


def _in_test_case(connection: BaseDatabaseWrapper) -> bool:
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)
