"""What the promises rest on in the tables: unique constraints, the comparison of text, one column.

Some of it is in the migrations only, since Django cannot make it from the models. In tables that were
made without them a message that comes twice is stored twice, and keys that differ by case are one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from django.apps import apps
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

from outbox_inbox.models import StoredEvent, table

from .common import STREAM, fetch_rows
from .dialects.mysql import MySQL

_Found = Sequence[tuple[str, str]]  # what kind of thing there is, and its name


def missing_parts(connection: BaseDatabaseWrapper) -> list[str] | None:
    """Return what the tables of the app lack, by one statement; None: there are no such tables."""
    found = _SELECT[connection.vendor](connection)
    if not {("table", each) for each in _tables()}.issubset(found):
        return None
    lacking = [
        f"the unique constraint {constraint.name} of {table(model)}"
        for model, constraint in _constraints()
        if ("index", constraint.name) not in found
    ]
    if connection.vendor == "postgresql" and ("column", "xid") not in found:
        lacking.append(f"the column xid of {STREAM}")
    inexact = sorted(name for kind, name in found if kind == "inexact")
    return [*lacking, *(f"the exact comparison of text in {name}" for name in inexact)]


def add_missing_parts(connection: BaseDatabaseWrapper) -> None:
    """Add to the tables what the migrations would have; what is there stays.

    Raises:
        django.db.IntegrityError: rows violate a constraint that is missing.
    """
    found = _SELECT[connection.vendor](connection)
    with connection.schema_editor() as editor:
        if connection.vendor == "mysql":
            from .mysql_schema import adapt_tables

            adapt_tables(editor, _lacking_tables(found))
            return
        if connection.vendor == "postgresql" and ("column", "xid") not in found:
            add_transaction_ids(editor, STREAM)
        for model, constraint in _constraints():
            if ("index", constraint.name) not in found:
                editor.add_constraint(model, constraint)


def add_transaction_ids(editor: BaseDatabaseSchemaEditor, name: str) -> None:
    """Have PostgreSQL write down the transaction of an event, whatever process inserts it."""
    quoted = editor.quote_name(name)
    editor.execute(
        f"ALTER TABLE {quoted} ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()"
    )
    editor.execute(f"CREATE INDEX outbox_inbox_stream_new ON {quoted} (context, xid, position)")


def _lacking_tables(found: _Found) -> set[str]:
    missing = {table(model) for model, each in _constraints() if ("index", each.name) not in found}
    return missing | {name.partition(".")[0] for kind, name in found if kind == "inexact"}


def _models() -> list[type[models.Model]]:
    return list(apps.get_app_config(StoredEvent._meta.app_label).get_models())


def _tables() -> list[str]:
    return [table(model) for model in _models()]


def _constraints() -> list[tuple[type[models.Model], models.UniqueConstraint]]:
    return [
        (model, each)
        for model in _models()
        for each in model._meta.constraints
        if isinstance(each, models.UniqueConstraint)
    ]


def _names() -> list[str]:
    return [constraint.name for _, constraint in _constraints()]


def _on_postgresql(connection: BaseDatabaseWrapper) -> _Found:
    found: list[Any] = fetch_rows(
        connection,
        "SELECT CASE relkind WHEN 'i' THEN 'index' ELSE 'table' END, relname::text FROM pg_class"
        " WHERE relname = ANY(%s) AND relkind IN ('i', 'r', 'p') AND pg_table_is_visible(oid)"
        " UNION ALL SELECT 'column', attname::text FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attname = 'xid' AND NOT attisdropped",
        [[*_tables(), *_names()], STREAM],
    )
    return found


def _on_sqlite(connection: BaseDatabaseWrapper) -> _Found:
    found: list[Any] = fetch_rows(connection, "SELECT type, name FROM sqlite_master", [])
    return found


def _on_mysql(connection: BaseDatabaseWrapper) -> _Found:
    here, names = "table_schema = DATABASE() AND table_name IN %s", tuple(_tables())
    found: list[Any] = fetch_rows(
        connection,
        f"SELECT 'table', table_name FROM information_schema.tables WHERE {here}"
        f" UNION ALL SELECT 'index', index_name FROM information_schema.statistics WHERE {here}"
        " UNION ALL SELECT 'inexact', CONCAT(table_name, '.', column_name)"
        f" FROM information_schema.columns WHERE {here} AND collation_name <> %s",
        [names, names, names, MySQL.of(connection).collation],
    )
    return found


_SELECT: dict[str, Callable[[BaseDatabaseWrapper], _Found]] = {
    "postgresql": _on_postgresql,
    "sqlite": _on_sqlite,
    "mysql": _on_mysql,
}
