"""Shadows: copies of a read model's tables, which stand under the tables' names while they are filled.

The projections of a rebuild write to their tables by ORM or by SQL, always under the same names.
Writing to the tables themselves would destroy what readers see. So within the transactions of a
rebuild, and only there, the names mean the copies:

- On PostgreSQL the copies are in a schema of their own, which comes first on the search path of the
  transaction.
- On SQLite the tables are renamed at the beginning of the transaction and back at its end: DDL is part
  of the transaction there, so no other connection ever sees it.

At the end the rows are exchanged, not the tables: names of indexes, grants and references stay the
same, and readers see either the old rows or the new ones.
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
    """The copies of some tables. All statements run in the caller's transaction."""

    def __init__(self, connection: BaseDatabaseWrapper, kept: Sequence[type[models.Model]]) -> None:
        self.connection = connection
        self.models = [each for model in kept for each in _with_links(model)]
        self.tables = [table(model) for model in self.models]

    @abstractmethod
    def exists(self) -> bool:
        """Return whether all copies exist, with the columns of the tables.

        Raises:
            OutboxInboxError: the role may not use the schema of the copies.
        """

    @abstractmethod
    def create(self) -> None:
        """Create the copies, empty.

        Raises:
            OutboxInboxError: the role may not create the schema of the copies.
        """

    def drop(self) -> None:
        """Remove the copies, if they exist."""
        for name in reversed(self.tables):
            self.execute(f"DROP TABLE IF EXISTS {self.copy_of(name)}")

    @abstractmethod
    def active(self) -> Any:
        """Return a context manager in which the names of the tables mean the copies."""

    @abstractmethod
    def copy_of(self, name: str) -> str:
        """Return the quoted name of a table's copy."""

    def swap(self) -> None:
        """Replace the rows of the tables by those of the copies."""
        for name in reversed(self.tables):
            self.execute(f"DELETE FROM {self.quoted(name)}")
        for name in self.tables:
            columns = ", ".join(map(self.quoted, self.columns(name)))
            self.execute(
                f"INSERT INTO {self.quoted(name)} ({columns})"
                f" SELECT {columns} FROM {self.copy_of(name)}"
            )
        for statement in self.connection.ops.sequence_reset_sql(no_style(), self.models):
            self.execute(statement)

    def broken_reference(self, error: Exception) -> OutboxInboxError:
        """Return the error to raise when the new rows do not fit what the database demands."""
        return OutboxInboxError(
            "the rebuilt rows cannot replace the old ones, which stay: other tables refer to rows of "
            f"{', '.join(self.tables)} that do not exist any more, or a constraint is violated "
            f"({error}). Correct the rows that refer to them, and call the command again"
        )

    def columns(self, name: str) -> list[str]:
        """Return the columns of a table, but not those that the database generates."""
        fields: Any = self.models[self.tables.index(name)]._meta.local_concrete_fields
        return [str(each.column) for each in fields if not each.generated]

    def quoted(self, name: str) -> str:
        """Return a name quoted for SQL."""
        return str(self.connection.ops.quote_name(name))

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows, if it has any."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []


class PostgresShadow(Shadow):
    """Copies in the schema ``outbox_inbox_rebuild``."""

    schema = "outbox_inbox_rebuild"

    def exists(self) -> bool:
        refused = self.execute(
            "SELECT current_user FROM pg_namespace WHERE nspname = %s AND NOT ("
            "has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))",
            [self.schema],
        )
        for (role,) in refused:
            raise OutboxInboxError(
                f"the role {role!r} may not create tables in the schema {self.schema}, in which a read "
                "model is rebuilt. Let its owner run: GRANT USAGE, CREATE ON SCHEMA "
                f'{self.schema} TO "{role}"'
            )
        copy, live = f"'{self.schema}'", "current_schema()"
        return all(self._columns_in(copy, name) for name in self.tables) and all(
            self._columns_in(copy, name) == self._columns_in(live, name) for name in self.tables
        )

    def _columns_in(self, schema: str, name: str) -> list[tuple[Any, ...]]:
        return self.execute(
            "SELECT column_name, data_type FROM information_schema.columns"
            f" WHERE table_schema = {schema} AND table_name = %s ORDER BY ordinal_position",
            [name],
        )

    def create(self) -> None:
        if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.schema]):
            ((may,),) = self.execute("SELECT has_database_privilege(current_database(), 'CREATE')")
            if not may:
                ((role, database),) = self.execute("SELECT current_user, current_database()")
                raise OutboxInboxError(
                    f"the role {role!r} may not create the schema {self.schema}, in which a read model "
                    f"is rebuilt. Let an administrator run: CREATE SCHEMA {self.schema} "
                    f'AUTHORIZATION "{role}" (in the database {database!r})'
                )
            self.execute(f"CREATE SCHEMA {self.schema}")
        for name in self.tables:
            self.execute(
                f"CREATE TABLE {self.copy_of(name)} (LIKE {self.quoted(name)} INCLUDING ALL)"
            )

    @contextmanager
    def active(self) -> Iterator[None]:
        # Local to the transaction: an error rolls the setting back with everything else.
        change = "SELECT set_config('search_path', %s, true)"
        ((path,),) = self.execute("SELECT current_setting('search_path')")
        self.execute(change, [f"{self.schema}, {path}"])
        yield
        self.execute(change, [path])

    def copy_of(self, name: str) -> str:
        return f"{self.schema}.{self.quoted(name)}"


class SQLiteShadow(Shadow):
    """Copies with a longer name."""

    copy_suffix = "__rebuild"
    original_suffix = "__live"

    def exists(self) -> bool:
        return all(
            self._columns_of(name + self.copy_suffix) == self._columns_of(name)
            for name in self.tables
        )

    def _columns_of(self, name: str) -> list[tuple[Any, ...]]:
        return self.execute("SELECT name, type FROM pragma_table_info(%s)", [name])

    def create(self) -> None:
        query = (
            "SELECT type, sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"
            " AND type IN ('table', 'index') ORDER BY type DESC"
        )
        for name in self.tables:
            for kind, sql in self.execute(query, [name]):
                self.execute(self._copy_statement(kind, sql, name).replace("%", "%%"))

    def _copy_statement(self, kind: str, sql: str, name: str) -> str:
        """Return the statement that creates a copy: with other names for the table and its indexes."""
        if kind == "table":
            for other in self.tables:  # copies refer to copies
                sql = sql.replace(f'REFERENCES "{other}"', f"REFERENCES {self.copy_of(other)}")
            return sql.replace(self.quoted(name), self.copy_of(name), 1)
        head, on, rest = sql.partition(" ON ")
        begin, _, index = head.rpartition(" ")
        copy = self.copy_of(index.strip('"'))
        return f"{begin} {copy}{on}{rest.replace(self.quoted(name), self.copy_of(name), 1)}"

    @contextmanager
    def active(self) -> Iterator[None]:
        for name in self.tables:
            self._rename(name, name + self.original_suffix)
            self._rename(name + self.copy_suffix, name)
        yield
        for name in self.tables:
            self._rename(name, name + self.copy_suffix)
            self._rename(name + self.original_suffix, name)

    def _rename(self, old: str, new: str) -> None:
        self.execute(f"ALTER TABLE {self.quoted(old)} RENAME TO {self.quoted(new)}")

    def copy_of(self, name: str) -> str:
        return self.quoted(name + self.copy_suffix)


def shadow_of(connection: BaseDatabaseWrapper, kept: Sequence[type[models.Model]]) -> Shadow:
    """Return the copies of the tables of some models, whether they exist or not."""
    kind = PostgresShadow if connection.vendor == "postgresql" else SQLiteShadow
    return kind(connection, kept)


def _with_links(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """Yield a model, and the automatic models of its many-to-many fields."""
    yield model
    for field in model._meta.local_many_to_many:
        through: Any = field.remote_field.through
        if through._meta.auto_created:
            yield through
