"""Add columns, indexes and unique constraints to large tables while others write to them.

Django's own operations keep writers out for as long as it takes to build the index. The table of
stored events is never pruned, so that may be minutes. A migration with these operations has
``atomic = False``: PostgreSQL builds an index beside writers only outside of a transaction. Each of them
does nothing if it was done before, so a migration that was interrupted may be run again.
"""

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddConstraint, AddField, AddIndex, AlterField
from django.db.migrations.state import ProjectState
from django.db.models import Index, Model, UniqueConstraint

from .common import fetch_rows


class AddUnique(AddConstraint):
    """Create a unique constraint that is declared by columns; its migration must not be atomic.

    PostgreSQL builds it concurrently, MySQL and MariaDB in place. If the migration was interrupted,
    it may be run again.
    """

    constraint: UniqueConstraint

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the index, unless it is there."""
        model = _model_of(self, app_label, schema_editor, to_state)
        if model is None or self.constraint.name in _complete_indexes(schema_editor, model):
            return
        columns = ", ".join(map(schema_editor.quote_name, _columns(self.constraint)))
        table = schema_editor.quote_name(model._meta.db_table)
        _remove_incomplete(schema_editor, self.constraint.name)
        concurrently = "CONCURRENTLY " if _beside_writers(schema_editor) else ""
        schema_editor.execute(
            f"CREATE UNIQUE INDEX {concurrently}{self.constraint.name} ON {table} ({columns})"
        )

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Remove the index."""
        model = _model_of(self, app_label, schema_editor, from_state)
        if model is not None and self.constraint.name in _complete_indexes(schema_editor, model):
            place = ""
            if schema_editor.connection.vendor == "mysql":
                place = f" ON {schema_editor.quote_name(model._meta.db_table)}"
            schema_editor.execute(f"DROP INDEX {self.constraint.name}{place}")


class AddColumn(AddField):
    """Add a column that is null, or has a default in the database: old code goes on inserting rows."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Add the column, unless it is there."""
        model = _model_of(self, app_label, schema_editor, to_state)
        if model is None:
            return
        connection: Any = schema_editor.connection
        with connection.cursor() as cursor:
            found = connection.introspection.get_table_description(cursor, model._meta.db_table)
        if self.name not in {column.name for column in found}:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddQueueIndex(AddIndex):
    """Create an index: concurrently on PostgreSQL, and as Django does elsewhere.

    MariaDB and MySQL build it beside writers by themselves, but have no index of a part of a table.

    Arguments:
        on_mysql: the columns of the index that does the work of a partial one there. Its name is that of
            the index with ``_rows``.
    """

    def __init__(self, model_name: str, index: Index, on_mysql: Sequence[str] = ()) -> None:
        super().__init__(model_name, index)
        self.on_mysql = on_mysql

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the index, unless it is there."""
        model = _model_of(self, app_label, schema_editor, to_state)
        index = self._index_of(schema_editor)
        if model is not None and index.name not in _complete_indexes(schema_editor, model):
            _remove_incomplete(schema_editor, index.name)
            schema_editor.add_index(model, index, **_beside_writers(schema_editor))

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Remove the index."""
        model = _model_of(self, app_label, schema_editor, from_state)
        index = self._index_of(schema_editor)
        if model is not None and index.name in _complete_indexes(schema_editor, model):
            schema_editor.remove_index(model, index, **_beside_writers(schema_editor))

    def _index_of(self, editor: BaseDatabaseSchemaEditor) -> Index:
        if editor.connection.vendor == "mysql" and self.on_mysql:
            return Index(fields=list(self.on_mysql), name=f"{self.index.name}_rows")
        return self.index


class AlterUnique(AlterField):
    """Change whether a column is unique.

    SQLite copies the table for that, and would lose its triggers: those that refuse writes after a
    context was transferred. They are created again, in the same transaction.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Change the column in one transaction, where the database has transactions for that."""
        connection = schema_editor.connection
        if connection.vendor != "sqlite":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        with transaction.atomic(using=connection.alias):
            triggers = fetch_rows(
                connection,
                "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s",
                [model._meta.db_table],
            )
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            for (trigger,) in triggers:
                schema_editor.execute(trigger)


def _model_of(
    operation: AddConstraint | AddField | AddIndex,
    app_label: str,
    editor: BaseDatabaseSchemaEditor,
    state: ProjectState,
) -> type[Model] | None:
    """Return the model that an operation changes; None: its table is not in this database."""
    name = operation.model_name
    model: type[Model] = state.apps.get_model(app_label, name)
    return model if operation.allow_migrate_model(editor.connection.alias, model) else None


def _beside_writers(editor: BaseDatabaseSchemaEditor) -> dict[str, Any]:
    """Return the options by which an index is made or removed while others write."""
    connection = editor.connection
    beside = connection.vendor == "postgresql" and not connection.in_atomic_block
    return {"concurrently": True} if beside else {}


def _remove_incomplete(editor: BaseDatabaseSchemaEditor, name: str) -> None:
    """Remove what an interrupted build leaves behind: an index that refuses rows and finds none."""
    if _beside_writers(editor):
        editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {editor.quote_name(name)}")


def _columns(constraint: UniqueConstraint) -> list[str]:
    expressions: Any = constraint.expressions
    return [column.name for column in expressions]


def _complete_indexes(editor: BaseDatabaseSchemaEditor, model: type[Model]) -> set[str]:
    """Return the names of a table's indexes, without those that PostgreSQL did not complete."""
    connection = editor.connection
    with connection.cursor() as cursor:
        found = set(connection.introspection.get_constraints(cursor, model._meta.db_table))
    if connection.vendor == "postgresql":
        invalid = "SELECT relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid"
        found -= {name for (name,) in fetch_rows(connection, f"{invalid} WHERE NOT indisvalid", [])}
    return found
