"""The guards: triggers that refuse every write for a context on a database where it is closed.

A pause keeps the movers of this app away, and nothing else. A process that still runs with the old
settings also records, receives and changes the context's own tables, and what it commits after the
copy would be lost without a word. The database itself must say no. A trigger says it to every
transaction, whatever snapshot it reads from, costs nothing where there is none, and making it
waits for all transactions that have written to the table.
"""

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    InboxMessage,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    StoredEvent,
    Transfer,
    table,
)
from outbox_inbox.queues.statements.moved import MARK

from .tables import own_models

LEAVING = (
    "is closed on this database: it is being handed over, or was, to another one. Nothing was "
    "stored. Deploy this process with the settings that name the context's new database"
)
COMING = (
    "is not open on this database yet: it is still being handed over. Nothing was stored; try "
    "again when manage.py transfer_context has said that it is done"
)

_FUNCTION = f"""
CREATE OR REPLACE FUNCTION outbox_inbox_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM {table(Transfer)} WHERE context = TG_ARGV[0] AND writing) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = TG_ARGV[1];
END $$
"""
_CONTEXT = "NEW.context = {label}"
_QUEUES: Final = {
    table(OutboxMessage): _CONTEXT,
    table(InboxMessage): _CONTEXT,
    table(Delivery): _CONTEXT,
    table(StoredEvent): _CONTEXT,
    table(QuarantinedMessage): _CONTEXT,
    table(Checkpoint): _CONTEXT,
    # Its rows may be looked at and locked; what is paused stays so.
    table(Partition): _CONTEXT + " AND NOT NEW.paused",
}
"""Table of the queues -> the rows that may be neither inserted nor updated. What is finished may
be deleted: no process stumbles over that, and nothing gets lost."""


def install(connection: BaseDatabaseWrapper, label: str, why: str) -> None:
    """Refuse writes for a context from the commit of the open transaction on."""
    _run(connection, _INSTALL[connection.vendor](label, f"{MARK}'{label}' {why}"))


def remove(connection: BaseDatabaseWrapper, label: str) -> None:
    """Let everybody write for a context again, from the commit of the open transaction on."""
    if connection.vendor == "postgresql":
        # It drops no trigger of a table of which a reference has still to be checked.
        connection.check_constraints()
    _run(connection, _REMOVE[connection.vendor](label))


def _on_postgresql(label: str, message: str) -> Iterator[str]:
    yield _FUNCTION
    call = f"EXECUTE FUNCTION outbox_inbox_refuse({_text(label)}, {_text(message)})"
    for name, condition in _QUEUES.items():
        yield (
            f"CREATE OR REPLACE TRIGGER {_name(label)} BEFORE INSERT OR UPDATE ON {_quoted(name)}"
            f" FOR EACH ROW WHEN ({condition.format(label=_text(label))}) {call}"
        )
    for model in own_models(label):
        yield (
            f"CREATE OR REPLACE TRIGGER {_name(label)} BEFORE INSERT OR UPDATE OR DELETE OR"
            f" TRUNCATE ON {_quoted(table(model))} FOR EACH STATEMENT {call}"
        )


def _off_postgresql(label: str) -> Iterator[str]:
    for name in (*_QUEUES, *map(table, own_models(label))):
        yield f"DROP TRIGGER IF EXISTS {_name(label)} ON {_quoted(name)}"


def _on_sqlite(label: str, message: str) -> Iterator[str]:
    yield from _off_sqlite(label)
    unless = (
        f"NOT EXISTS (SELECT 1 FROM {table(Transfer)} WHERE context = {_text(label)} AND writing)"
    )
    for name, event, condition in _sqlite_triggers(label):
        where = f"{condition} AND {unless}" if condition else unless
        yield (
            f"CREATE TRIGGER {_name(label, name, event)} BEFORE {event} ON {_quoted(name)}"
            f" WHEN {where} BEGIN SELECT RAISE(ABORT, {_text(message)}); END"
        )


def _off_sqlite(label: str) -> Iterator[str]:
    for name, event, _ in _sqlite_triggers(label):
        yield f"DROP TRIGGER IF EXISTS {_name(label, name, event)}"


def _sqlite_triggers(label: str) -> Iterator[tuple[str, str, str]]:
    for name, condition in _QUEUES.items():
        for event in ("INSERT", "UPDATE"):
            yield name, event, condition.format(label=_text(label))
    for model in own_models(label):
        for event in ("INSERT", "UPDATE", "DELETE"):
            yield table(model), event, ""


_INSTALL: Final = {"postgresql": _on_postgresql, "sqlite": _on_sqlite}
_REMOVE: Final = {"postgresql": _off_postgresql, "sqlite": _off_sqlite}

VENDORS: Final = frozenset(_INSTALL)
"""Between which a context can be handed over."""


def _run(connection: BaseDatabaseWrapper, statements: Iterator[str] | list[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _name(label: str, *parts: str) -> str:
    # PostgreSQL cuts names after 63 characters, and a label may have 50.
    return _quoted("_".join(["outbox_inbox_closed", f"{crc32(label.encode()):08x}", *parts]))


def _quoted(name: str) -> str:
    # Both vendors quote alike; a name that is quoted already (db_table='"a"."b"') is left so.
    return name if name.startswith('"') else f'"{name}"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
