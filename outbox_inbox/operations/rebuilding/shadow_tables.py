"""Shadows: copies of a read model's tables that are filled beside it, under the same names.

The projections of a rebuild write to the tables that they always write to, by ORM or by SQL, and must
not meet the ones that everybody reads. In the transactions of a rebuild, and only there, the names
stand for the copies:

- On PostgreSQL the copies are in a schema of their own, which comes first on the search path of the
  transaction.
- On SQLite the tables are renamed at the beginning of the transaction and back at its end: DDL is part
  of the transaction there, so nobody else ever sees it.

At the end the contents change places, not the tables: names of indexes, grants and references stay what
they are, and readers see either the old rows or the new ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management.color import no_style
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import table


class Shadow(ABC):
    """The copies of some tables. Everything happens in the caller's transaction."""

    def __init__(self, connection: BaseDatabaseWrapper, kept: Sequence[type[models.Model]]) -> None:
        self.connection = connection
        self.models = [each for model in kept for each in _with_links(model)]
        self.tables = [table(model) for model in self.models]

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether all copies are there, and have the columns of the tables."""

    @abstractmethod
    def make(self) -> None:
        """Make the copies, empty."""

    @abstractmethod
    def drop(self) -> None:
        """Remove the copies, if they are there."""

    @abstractmethod
    def entered(self) -> Any:
        """Return a block in which the names of the tables stand for the copies."""

    @abstractmethod
    def copy_of(self, name: str) -> str:
        """Return the quoted name of a table's copy."""

    def swap(self) -> None:
        """Put the rows of the copies in the place of those of the tables."""
        for name in reversed(self.tables):
            self.run(f"DELETE FROM {self.quoted(name)}")
        for name in self.tables:
            columns = ", ".join(map(self.quoted, self.columns(name)))
            self.run(
                f"INSERT INTO {self.quoted(name)} ({columns})"
                f" SELECT {columns} FROM {self.copy_of(name)}"
            )
        for statement in self.connection.ops.sequence_reset_sql(no_style(), self.models):
            self.run(statement)

    def broken_reference(self, error: Exception) -> OutboxInboxError:
        """Return the error to raise when the new rows do not fit what the database demands."""
        return OutboxInboxError(
            "the rebuilt rows cannot replace the old ones, which stay: other tables refer to rows of "
            f"{', '.join(self.tables)} that are no more, or a constraint does not hold ({error}). "
            "Correct what refers to them, and call the command again"
        )

    def columns(self, name: str) -> list[str]:
        """Return the columns of a table that are written, and not worked out by the database."""
        model = self.models[self.tables.index(name)]
        return [
            str(each.column)
            for each in model._meta.local_concrete_fields
            if not getattr(each, "generated", False)
        ]

    def quoted(self, name: str) -> str:
        """Return a name as SQL has it."""
        return str(self.connection.ops.quote_name(name))

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows, if it has any."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []


class PostgresShadow(Shadow):
    """Copies in the schema ``outbox_inbox_rebuild``."""

    schema = "outbox_inbox_rebuild"

    def exists(self) -> bool:
        """See `Shadow.exists`. Raises OutboxInboxError when the role may not use the schema."""
        self._require_grants()
        return all(self._columns_of(name, self.schema) for name in self.tables) and all(
            self._columns_of(name, self.schema) == self._columns_of(name, None)
            for name in self.tables
        )

    def _columns_of(self, name: str, schema: str | None) -> list[tuple[Any, ...]]:
        where, parameters = ("%s", [schema]) if schema else ("current_schema()", [])
        return self.run(
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = {where} AND table_name = %s ORDER BY ordinal_position",
            [*parameters, name],
        )

    def make(self) -> None:
        """See `Shadow.make`.

        Raises:
            OutboxInboxError: the role may not make the schema.
        """
        if not self.run("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.schema]):
            ((may,),) = self.run("SELECT has_database_privilege(current_database(), 'CREATE')")
            if not may:
                ((role, database),) = self.run("SELECT current_user, current_database()")
                raise OutboxInboxError(
                    f"the role {role!r} may not make the schema {self.schema} in which a read model "
                    f"is rebuilt. Let an administrator run: CREATE SCHEMA {self.schema} "
                    f'AUTHORIZATION "{role}" (in the database {database!r})'
                )
            self.run(f"CREATE SCHEMA {self.schema}")
        for name in self.tables:
            self.run(f"CREATE TABLE {self.copy_of(name)} (LIKE {self.quoted(name)} INCLUDING ALL)")

    def _require_grants(self) -> None:
        refused = self.run(
            "SELECT current_user FROM pg_namespace WHERE nspname = %s AND NOT ("
            "has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))",
            [self.schema],
        )
        for (role,) in refused:
            raise OutboxInboxError(
                f"the role {role!r} may not make tables in the schema {self.schema}, in which a read "
                "model is rebuilt. Let its owner run: GRANT USAGE, CREATE ON SCHEMA "
                f'{self.schema} TO "{role}"'
            )

    def drop(self) -> None:
        """See `Shadow.drop`."""
        for name in reversed(self.tables):
            self.run(f"DROP TABLE IF EXISTS {self.copy_of(name)}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See `Shadow.entered`."""
        ((path,),) = self.run("SELECT current_setting('search_path')")
        self._set_path(f"{self.schema}, {path}")
        yield
        self._set_path(path)

    def _set_path(self, path: str) -> None:
        self.run("SELECT set_config('search_path', %s, true)", [path])

    def copy_of(self, name: str) -> str:
        """See `Shadow.copy_of`."""
        return f"{self.schema}.{self.quoted(name)}"


class SQLiteShadow(Shadow):
    """Copies with a longer name."""

    suffix = "__rebuild"
    aside = "__aside"

    def exists(self) -> bool:
        """See `Shadow.exists`."""
        return all(
            self._columns_of(name + self.suffix) == self._columns_of(name) for name in self.tables
        )

    def _columns_of(self, name: str) -> list[tuple[Any, ...]]:
        return self.run("SELECT name, type FROM pragma_table_info(%s)", [name])

    def make(self) -> None:
        """See `Shadow.make`."""
        for name in self.tables:
            found = self.run(
                "SELECT type, sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"
                " AND type IN ('table', 'index') ORDER BY type DESC",
                [name],
            )
            for kind, sql in found:
                self.run(self._copied(kind, sql, name).replace("%", "%%"))

    def _copied(self, kind: str, sql: str, name: str) -> str:
        """Return the statement that makes a copy: with other names of the table and of its indexes."""
        quoted = f'"{name}"'
        if kind == "table":
            for other in self.tables:  # copies refer to copies
                referred = f'REFERENCES "{other}"'
                sql = sql.replace(referred, f"REFERENCES {self.copy_of(other)}")
            return sql.replace(quoted, self.copy_of(name), 1)
        head, on, rest = sql.partition(" ON ")
        begin, _, index = head.rpartition(" ")
        renamed = f'{begin} "{index.strip(chr(34))}{self.suffix}"'
        return f"{renamed}{on}{rest.replace(quoted, self.copy_of(name), 1)}"

    def drop(self) -> None:
        """See `Shadow.drop`."""
        for name in reversed(self.tables):
            self.run(f"DROP TABLE IF EXISTS {self.copy_of(name)}")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """See `Shadow.entered`."""
        for name in self.tables:
            self._rename(name, name + self.aside)
            self._rename(name + self.suffix, name)
        yield
        for name in self.tables:
            self._rename(name, name + self.suffix)
            self._rename(name + self.aside, name)

    def _rename(self, old: str, new: str) -> None:
        self.run(f"ALTER TABLE {self.quoted(old)} RENAME TO {self.quoted(new)}")

    def copy_of(self, name: str) -> str:
        """See `Shadow.copy_of`."""
        return self.quoted(name + self.suffix)


def shadow_of(connection: BaseDatabaseWrapper, kept: Sequence[type[models.Model]]) -> Shadow:
    """Return the copies of the tables of some models, whether they are there or not."""
    kind = PostgresShadow if connection.vendor == "postgresql" else SQLiteShadow
    return kind(connection, kept)


def _with_links(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """Yield a model, and the tables that its many-to-many fields have made for themselves."""
    yield model
    for field in model._meta.local_many_to_many:
        through: Any = field.remote_field.through
        if through._meta.auto_created:
            yield through
