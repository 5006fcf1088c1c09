"""Bring tables on MySQL and MariaDB into the form that the queues need there.

Without it duplicates would get in and two keys could be one. By default text compares without
regard to case, accents and trailing spaces. MariaDB does not make constraints and indexes that are
declared by expressions. And neither has an index of a part of a table: plain ones that begin with
the state serve the same statements.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from django.apps import apps
from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from .dialects.mysql import MySQL

Indexes = Mapping[str, Mapping[str, Sequence[str]]]


class AdaptToMySQL(Operation):
    """Adapt tables of the app; does nothing on other vendors.

    It may be repeated: what is there already stays. Every later migration that creates tables must
    end with one.

    Arguments:
        indexes: each of the models -> name of a plain index -> its columns.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, indexes: Indexes) -> None:
        self.indexes = indexes

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: the models are the same for all vendors."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Convert the text, and create the constraints and indexes that are missing."""
        for model in self._models(app_label, schema_editor, to_state):
            self.adapt(schema_editor, model)

    def adapt(self, editor: BaseDatabaseSchemaEditor, model: type[models.Model]) -> None:
        """Adapt the table of one of the models."""
        _compare_exactly(editor, model)
        there = _constraints(editor, model)
        for made in self._made(editor, model):
            if made.name not in there:
                editor.execute(made.create_sql(model, editor), params=None)
        for index in model._meta.indexes:
            # Django has created it on MySQL, unlike MariaDB: as an index of the whole table.
            if index.condition is not None and index.name in there:
                editor.execute(index.remove_sql(model, editor))

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Remove what Django does not know of; the exact comparison of text stays."""
        for model in self._models(app_label, schema_editor, from_state):
            there = _constraints(schema_editor, model)
            for made in self._made(schema_editor, model):
                if made.name in there:
                    schema_editor.execute(made.remove_sql(model, schema_editor))
            for index in model._meta.indexes:
                # The migrations before this one remove it.
                if index.condition is not None and index.name not in there:
                    schema_editor.add_index(model, index)

    def describe(self) -> str:
        """Return the line that ``migrate --plan`` prints."""
        return "Adapt the tables to MySQL and MariaDB (nothing on other databases)"

    def _models(
        self, app_label: str, editor: BaseDatabaseSchemaEditor, state: ProjectState
    ) -> list[type[models.Model]]:
        if editor.connection.vendor != "mysql":
            return []
        found = [state.apps.get_model(app_label, name) for name in self.indexes]
        return [each for each in found if self.allow_migrate_model(editor.connection.alias, each)]

    def _made(
        self, editor: BaseDatabaseSchemaEditor, model: type[models.Model]
    ) -> list[models.UniqueConstraint | models.Index]:
        """Return the constraints and indexes that Django does not create."""
        named = self.indexes[str(model._meta.model_name)]
        plain = [models.Index(fields=list(columns), name=name) for name, columns in named.items()]
        if editor.connection.features.supports_expression_indexes:
            # On MySQL, unlike MariaDB, it creates the others at the end of the migration.
            return [*plain]
        return [*plain, *_of_plain_columns(model)]


def adapt_tables(editor: BaseDatabaseSchemaEditor, names: Collection[str]) -> None:
    """Adapt tables that were made without the migrations, as the migrations do."""
    for adaptation in _adaptations():
        for name in adaptation.indexes:
            model = apps.get_model("outbox_inbox", name)
            if model._meta.db_table in names:
                adaptation.adapt(editor, model)


def _adaptations() -> Iterator[AdaptToMySQL]:
    package = import_module("outbox_inbox.migrations")
    for each in sorted(module.name for module in iter_modules(package.__path__)):
        migration = import_module(f"{package.__name__}.{each}").Migration
        yield from (part for part in migration.operations if isinstance(part, AdaptToMySQL))


def _compare_exactly(editor: BaseDatabaseSchemaEditor, model: type[models.Model]) -> None:
    # Also the default of the table, so that a column that is changed or added later has it too.
    collation = MySQL.of(editor.connection).collation
    name = editor.quote_name(model._meta.db_table)
    editor.execute(f"ALTER TABLE {name} CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")


def _constraints(editor: BaseDatabaseSchemaEditor, model: type[models.Model]) -> set[str]:
    connection: Any = editor.connection
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, model._meta.db_table))


def _of_plain_columns(model: type[models.Model]) -> list[models.UniqueConstraint | models.Index]:
    """Return the constraints and whole indexes of a model, declared by columns."""
    constraints = [
        each for each in model._meta.constraints if isinstance(each, models.UniqueConstraint)
    ]
    whole = [each for each in model._meta.indexes if each.condition is None]
    declared: list[Any] = [*constraints, *whole]
    return [
        type(each)(fields=[column.name for column in each.expressions], name=each.name)
        for each in declared
        if each.expressions
    ]
