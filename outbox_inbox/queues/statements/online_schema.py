"""Replace a unique constraint of a large table, as far as the database can while others write to it.

Django's own operations keep writers out for as long as it takes to build the index. The table of
stored events is never pruned, so that may be minutes.
"""

from typing import Any

from django.db import transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddConstraint, AlterField
from django.db.migrations.state import ProjectState
from django.db.models import Model, UniqueConstraint

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
        model = to_state.apps.get_model(app_label, self.model_name)
        connection = schema_editor.connection
        if not self.allow_migrate_model(connection.alias, model):
            return
        if self.constraint.name in _complete_indexes(schema_editor, model):
            return
        columns = ", ".join(map(schema_editor.quote_name, _columns(self.constraint)))
        table = schema_editor.quote_name(model._meta.db_table)
        concurrently = ""
        if connection.vendor == "postgresql" and not connection.in_atomic_block:
            # What an interrupted build leaves behind is an index that refuses rows and finds none.
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self.constraint.name}")
            concurrently = "CONCURRENTLY "
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
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if self.constraint.name in _complete_indexes(schema_editor, model):
            place = ""
            if schema_editor.connection.vendor == "mysql":
                place = f" ON {schema_editor.quote_name(model._meta.db_table)}"
            schema_editor.execute(f"DROP INDEX {self.constraint.name}{place}")


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
