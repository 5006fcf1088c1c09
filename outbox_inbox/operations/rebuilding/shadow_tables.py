"""Shadows: copies of a read model's tables, which stand under the tables' names while they are filled.

The projections of a rebuild write to their tables by ORM or by SQL, always under the same names.
Writing to the tables themselves would destroy what readers see. So within the transactions of a
rebuild, and only there, the names mean the copies:

- On PostgreSQL the copies are in a schema of their own, which comes first on the search path of the
  transaction. Each schema with live tables has another one for its copies.
- On SQLite the tables are renamed at the beginning of the transaction and back at its end: DDL is part
  of the transaction there, so no other connection ever sees it.

At the end the rows are exchanged, not the tables: names of indexes, grants and references stay the
same, and readers see either the old rows or the new ones.

Copies carry a mark that names the checkpoint which says what is in them. Copies that belong to another
checkpoint would have events twice, or lack some.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import truncate_name

from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint, table


class Shadow(ABC):
    """The copies of some tables. All statements run in the caller's transaction."""

    def __init__(self, connection: BaseDatabaseWrapper, kept: Sequence[type[models.Model]]) -> None:
        self.connection = connection
        self.models = [each for model in kept for each in _with_links(model)]
        self.tables = [table(model) for model in self.models]

    @abstractmethod
    def exists(self, checkpoint: int | None = None) -> bool:
        """Return whether all copies exist, with the columns of the tables.

        Arguments:
            checkpoint: the id of the checkpoint to which they must belong; None (default): any.

        Raises:
            OutboxInboxError: the role may not use the schema of the copies.
        """

    @abstractmethod
    def create(self, checkpoint: int) -> None:
        """Create the copies, empty, for a checkpoint.

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

    @abstractmethod
    def last_id(self, name: str, column: str) -> int:
        """Return the highest number that a table has ever given out or stored in a column."""

    @abstractmethod
    def advance_sequences(self) -> None:
        """Have the tables give out ids behind those that they have."""

    @abstractmethod
    def constraints_on(self, name: str, column: str) -> list[tuple[Any, ...]]:
        """Return the foreign keys of other tables that the database checks: table and column, quoted."""

    def broken_reference(self, error: Exception) -> OutboxInboxError:
        """Return the error to raise when the new rows do not fit what the database demands."""
        return OutboxInboxError(
            "the rebuilt rows cannot replace the old ones, which stay: other tables refer to rows of "
            f"{', '.join(self.tables)} that do not exist any more, or a constraint is violated "
            f"({error}). Correct the rows that refer to them, and call the command again"
        )

    def quoted(self, name: str) -> str:
        """Return a name quoted for SQL."""
        return str(self.connection.ops.quote_name(name))

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows, if it has any."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []


class PostgresShadow(Shadow):
    """Copies in the schema ``outbox_inbox_rebuild``, or ``outbox_inbox_rebuild_NAME``.

    Two projects may have their tables in two schemas of one database. In one schema for the copies of
    both, one would find the half-filled copies of the other.
    """

    @cached_property
    def schema(self) -> str:
        """The schema of the copies: that of the tables in ``public`` has no more to its name."""
        ((live,),) = self.execute(
            "SELECT COALESCE((SELECT n.nspname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)), current_schema())",
            [self.quoted(self.tables[0])],
        )
        name = "outbox_inbox_rebuild" if live == "public" else f"outbox_inbox_rebuild_{live}"
        return truncate_name(name, self.connection.ops.max_name_length(), hash_len=8)

    @property
    def _schema_sql(self) -> str:
        plain = re.fullmatch("[a-z_][a-z0-9_]*", self.schema)
        return self.schema if plain else self.quoted(self.schema)

    def exists(self, checkpoint: int | None = None) -> bool:
        refused = self.execute(
            "SELECT current_user FROM pg_namespace WHERE nspname = %s AND NOT ("
            "has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE'))",
            [self.schema],
        )
        for (role,) in refused:
            raise OutboxInboxError(
                f"the role {role!r} may not create tables in the schema {self.schema}, in which a read "
                "model is rebuilt. Let its owner run: GRANT USAGE, CREATE ON SCHEMA "
                f'{self._schema_sql} TO "{role}"'
            )
        wanted = None if checkpoint is None else self._mark(checkpoint)
        for name in self.tables:
            columns, mark = self._shape(self.copy_of(name))
            live, _ = self._shape(self.quoted(name))
            if not columns or columns != live or wanted not in {None, mark}:
                return False
        return True

    def _shape(self, name: str) -> tuple[Any, Any]:
        """Return the columns of a table with their types, and its comment."""
        ((columns, comment),) = self.execute(
            "SELECT (SELECT string_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod)),"
            " ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = t.oid AND attnum > 0"
            " AND NOT attisdropped), obj_description(t.oid, 'pg_class')"
            " FROM (SELECT to_regclass(%s)::oid AS oid) t",
            [name],
        )
        return columns, comment

    def _mark(self, checkpoint: int) -> str:
        # With the table: the tables of checkpoints of two schemas may both have this id.
        ((found,),) = self.execute("SELECT to_regclass(%s)::oid", [self.quoted(table(Checkpoint))])
        return f"outbox_inbox: checkpoint {checkpoint} of table {found}"

    def create(self, checkpoint: int) -> None:
        if not self.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [self.schema]):
            ((may,),) = self.execute("SELECT has_database_privilege(current_database(), 'CREATE')")
            schema = self._schema_sql
            if not may:
                ((role, database),) = self.execute("SELECT current_user, current_database()")
                raise OutboxInboxError(
                    f"the role {role!r} may not create the schema {self.schema}, in which a read model "
                    f"is rebuilt. Let an administrator run: CREATE SCHEMA {schema} "
                    f'AUTHORIZATION "{role}" (in the database {database!r})'
                )
            self.execute(f"CREATE SCHEMA {schema}")
        mark = self._mark(checkpoint)
        for name in self.tables:
            copy = self.copy_of(name)
            self.execute(f"CREATE TABLE {copy} (LIKE {self.quoted(name)} INCLUDING ALL)")
            self.execute(f"COMMENT ON TABLE {copy} IS '{mark}'")

    def last_id(self, name: str, column: str) -> int:
        ((highest, sequence),) = self.execute(
            f"SELECT COALESCE(MAX({self.quoted(column)}), 0), pg_get_serial_sequence(%s, %s)"
            f" FROM {self.quoted(name)}",
            [self.quoted(name), column],
        )
        if sequence is None:
            return int(highest)
        ((given,),) = self.execute(
            f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"
        )
        return max(int(highest), int(given))

    def advance_sequences(self) -> None:
        for model in self.models:
            pk: Any = model._meta.pk
            if isinstance(pk, models.AutoField) and pk.column:
                # Never back: an id that is given out again may still be referred to.
                name, last = table(model), self.last_id(table(model), pk.column)
                self.execute(
                    "SELECT setval(pg_get_serial_sequence(%s, %s), %s) WHERE %s > 0",
                    [self.quoted(name), pk.column, last, last],
                )

    def constraints_on(self, name: str, column: str) -> list[tuple[Any, ...]]:
        return self.execute(
            "SELECT c.conrelid::regclass::text, quote_ident(o.attname) FROM pg_constraint c"
            " JOIN pg_attribute o ON o.attrelid = c.conrelid AND o.attnum = c.conkey[1]"
            " JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum = c.confkey[1]"
            " WHERE c.contype = 'f' AND c.confrelid = to_regclass(%s) AND t.attname = %s"
            " AND c.conrelid <> ALL(ARRAY(SELECT to_regclass(n)::oid FROM unnest(%s::text[]) n))",
            [self.quoted(name), column, [self.quoted(each) for each in self.tables]],
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        # Local to the transaction: an error rolls the setting back with everything else.
        change = "SELECT set_config('search_path', %s, true)"
        ((path,),) = self.execute("SELECT current_setting('search_path')")
        self.execute(change, [f"{self._schema_sql}, {path}"])
        yield
        self.execute(change, [path])

    def copy_of(self, name: str) -> str:
        return f"{self._schema_sql}.{self.quoted(name)}"


class SQLiteShadow(Shadow):
    """Copies with a longer name."""

    copy_suffix = "__rebuild"
    original_suffix = "__live"

    def exists(self, checkpoint: int | None = None) -> bool:
        return all(
            self._columns_of(name + self.copy_suffix) == self._columns_of(name)
            and (checkpoint is None or self._is_marked(name, checkpoint))
            for name in self.tables
        )

    def _columns_of(self, name: str) -> list[tuple[Any, ...]]:
        return self.execute("SELECT name, type FROM pragma_table_info(%s)", [name])

    def _is_marked(self, name: str, checkpoint: int) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = %s AND instr(sql, %s) > 0"
        return bool(self.execute(query, [name + self.copy_suffix, self._mark(checkpoint)]))

    def _mark(self, checkpoint: int) -> str:
        """Return the comment that SQLite keeps with the statement that created a copy."""
        return f"/* outbox_inbox: checkpoint {checkpoint} */"

    def create(self, checkpoint: int) -> None:
        query = (
            "SELECT type, sql FROM sqlite_master WHERE tbl_name = %s AND sql IS NOT NULL"
            " AND type IN ('table', 'index') ORDER BY type DESC"
        )
        for name in self.tables:
            for kind, sql in self.execute(query, [name]):
                copied = self._copy_statement(kind, sql, name)
                if kind == "table":
                    copied = copied.replace("(", f"{self._mark(checkpoint)} (", 1)
                self.execute(copied.replace("%", "%%"))

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

    def last_id(self, name: str, column: str) -> int:
        ((highest,),) = self.execute(
            f"SELECT COALESCE(MAX({self.quoted(column)}), 0) FROM {self.quoted(name)}"
        )
        if not self.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
            return int(highest)
        given = self.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [name])
        return max(int(highest), *(int(each) for (each,) in given), 0)

    def advance_sequences(self) -> None:
        """Do nothing: SQLite remembers the highest id that was ever stored."""

    def constraints_on(self, name: str, column: str) -> list[tuple[Any, ...]]:
        found = self.execute(
            'SELECT m.name, f."from", f."to" FROM sqlite_master m, pragma_foreign_key_list(m.name) f'
            " WHERE m.type = 'table' AND lower(f.\"table\") = lower(%s)",
            [name],
        )
        return [
            (self.quoted(other), self.quoted(own))
            for other, own, target in found
            if other not in self.tables and target in {None, column}
        ]

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
