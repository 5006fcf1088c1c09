"""The guards: triggers that refuse every write for a context on a database where it is closed.

A pause stops the movers of this app, and nothing else. A process that still runs with the old
settings also records, receives and changes the context's own tables; what it committed after the
copy would be lost silently. So the database itself must refuse. A trigger refuses for every
transaction, whatever snapshot it reads from, costs nothing where no context was transferred, and
creating it waits for all transactions that have written to the table.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from zlib import crc32

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    InboxMessage,
    OperatorAction,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
    StoredEvent,
    Transfer,
    table,
)
from outbox_inbox.queues.statements.moved import MARK

from .tables import own_models

CLOSED_MESSAGE = (
    "is closed on this database: it is being transferred, or was, to another one. Nothing was "
    "stored. Deploy this process with the settings that name the context's new database"
)
NOT_OPEN_MESSAGE = (
    "is not open on this database yet: it is still being transferred. Nothing was stored; try "
    "again when manage.py transfer_context has reported that it is done"
)

VENDORS: Final = frozenset({"postgresql", "sqlite"})
"""The databases between which a context can be transferred."""

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION outbox_inbox_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM {table(Transfer)} WHERE context = TG_ARGV[0] AND writing) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = TG_ARGV[1];
END $$
"""
_OF_CONTEXT = "NEW.context = {label}"
_GUARDED = (
    StoredEvent,
    OutboxMessage,
    InboxMessage,
    Delivery,
    QuarantinedMessage,
    OperatorAction,
    ProcessState,
    Checkpoint,
)
_GUARDED_ROWS: Final = {
    **dict.fromkeys(map(table, _GUARDED), _OF_CONTEXT),
    # Its rows may be read and locked; a paused one stays paused.
    table(Partition): _OF_CONTEXT + " AND NOT NEW.paused",
}
"""Table of the queues -> the rows that may be neither inserted nor updated. Finished rows may be
deleted: pruning loses nothing."""


@contextmanager
def unguarded_transaction(label: str, using: str) -> Iterator[Transfer]:
    """Open a transaction that may write for a context where its guards refuse all others.

    Raises:
        TransferRefused: the database has no row of the transfer: it has been aborted meanwhile.
    """
    with transaction.atomic(using=using):
        rows = Transfer.objects.using(using).filter(context=label)
        # The mark is taken away before the commit, so no other transaction ever sees it. It also
        # locks the row, so two processes that do the same transfer take turns.
        if not rows.update(writing=True):
            raise TransferRefused(f"the transfer of {label!r} has been aborted meanwhile")
        yield rows.get()
        rows.update(writing=False)


def install_guards(connection: BaseDatabaseWrapper, label: str, reason: str) -> None:
    """Refuse writes for a context from the commit of the open transaction on."""
    install = _install_on_postgresql if connection.vendor == "postgresql" else _install_on_sqlite
    _execute_all(connection, install(label, f"{MARK}'{label}' {reason}"))


def remove_guards(connection: BaseDatabaseWrapper, label: str) -> None:
    """Accept writes for a context again, from the commit of the open transaction on."""
    if connection.vendor == "postgresql":
        # PostgreSQL refuses to drop a trigger of a table with references still to be checked.
        connection.check_constraints()
        _execute_all(connection, _remove_on_postgresql(label))
    else:
        _execute_all(connection, _remove_on_sqlite(label))


def _install_on_postgresql(label: str, message: str) -> Iterator[str]:
    yield _FUNCTION
    create = f"CREATE OR REPLACE TRIGGER {_trigger_name(label)} BEFORE INSERT OR UPDATE"
    call = f"EXECUTE FUNCTION outbox_inbox_refuse({_literal(label)}, {_literal(message)})"
    for name, condition in _GUARDED_ROWS.items():
        where = condition.format(label=_literal(label))
        yield f"{create} ON {_quoted(name)} FOR EACH ROW WHEN ({where}) {call}"
    for name in map(table, own_models(label)):
        yield f"{create} OR DELETE OR TRUNCATE ON {_quoted(name)} FOR EACH STATEMENT {call}"


def _remove_on_postgresql(label: str) -> Iterator[str]:
    for name in (*_GUARDED_ROWS, *map(table, own_models(label))):
        yield f"DROP TRIGGER IF EXISTS {_trigger_name(label)} ON {_quoted(name)}"


def _install_on_sqlite(label: str, message: str) -> Iterator[str]:
    yield from _remove_on_sqlite(label)
    unless = f"NOT EXISTS (SELECT 1 FROM {table(Transfer)} WHERE context = {_literal(label)} AND writing)"
    for name, event, condition in _sqlite_triggers(label):
        where = f"{condition} AND {unless}"
        yield (
            f"CREATE TRIGGER {_trigger_name(label, name, event)} BEFORE {event} ON {_quoted(name)}"
            f" WHEN {where} BEGIN SELECT RAISE(ABORT, {_literal(message)}); END"
        )


def _remove_on_sqlite(label: str) -> Iterator[str]:
    for name, event, _ in _sqlite_triggers(label):
        yield f"DROP TRIGGER IF EXISTS {_trigger_name(label, name, event)}"


def _sqlite_triggers(label: str) -> Iterator[tuple[str, str, str]]:
    for name, condition in _GUARDED_ROWS.items():
        for event in ("INSERT", "UPDATE"):
            yield name, event, condition.format(label=_literal(label))
    for model in own_models(label):
        for event in ("INSERT", "UPDATE", "DELETE"):
            yield table(model), event, "TRUE"


def _execute_all(connection: BaseDatabaseWrapper, statements: Iterator[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _trigger_name(label: str, *parts: str) -> str:
    # PostgreSQL cuts names after 63 characters, and a label may have 50: two would collide.
    return _quoted("_".join(["outbox_inbox_closed", f"{crc32(label.encode()):08x}", *parts]))


def _quoted(name: str) -> str:
    # Both vendors quote alike; a name that is quoted already (db_table='"a"."b"') stays so.
    return name if name.startswith('"') else f'"{name}"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
