"""A migrated database of its own for each test, and what stands in it at the end."""

import os
import secrets
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg

from tests import services


@dataclass(frozen=True)
class Store:
    """A database that processes are given by its URL, and tests read from outside."""

    url: str

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query, over a connection of its own."""
        with self._cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def execute(self, sql: str) -> None:
        """Execute a statement, and commit it, over a connection of its own."""
        with self._cursor() as cursor:
            cursor.execute(sql)
            cursor.connection.commit()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self.url.startswith("mysql"):
            with _mysql(self.url, urlsplit(self.url).path[1:]) as cursor:
                cursor.execute("SET SESSION sql_mode = 'ANSI_QUOTES'")
                yield cursor
            return
        in_file = self.url.startswith("sqlite")
        path = self.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path) if in_file else psycopg.connect(self.url)) as connection:
            yield connection.cursor()

    def forget_workers(self) -> None:
        """Let those that were killed be silent for so long that no worker waits for them any more."""
        self.execute("UPDATE outbox_inbox_partition SET last_run_at = NULL")

    def ledger(
        self, tables: Sequence[str] = ("shop_entry", "depot_pick")
    ) -> dict[tuple[str, str], list[int]]:
        """Return (consumer, key) -> the numbers of its steps, in the order of their effects."""
        steps: dict[tuple[str, str], list[int]] = defaultdict(list)
        for table in tables:
            rows = self.query(f'SELECT consumer, "order", number FROM {table} ORDER BY id')
            for consumer, key, number in rows:
                steps[consumer, key].append(number)
        return steps

    def board(self) -> dict[str, tuple[int, Decimal]]:
        """Return country -> orders and revenue, as shipping's read model has it."""
        rows = self.query("SELECT country, orders, revenue FROM shipping_countryboard")
        cent = Decimal("0.01")
        return {row[0]: (row[1], Decimal(str(row[2])).quantize(cent)) for row in rows if row[1]}

    def counted(self, table: str) -> dict[str, int]:
        """Return status -> how many rows have it."""
        return dict(self.query(f"SELECT status, COUNT(*) FROM {table} GROUP BY status"))

    def unfinished(self) -> int:
        """Return how many messages and deliveries are neither sent, done nor discarded."""
        total = 0
        for table, final in (("outboxmessage", "sent"), ("delivery", "done")):
            sql = (
                f"SELECT COUNT(*) FROM outbox_inbox_{table}"
                f" WHERE state NOT IN ('{final}', 'discarded')"
            )
            if table == "outboxmessage":
                # A time-out of the future is not left over.
                sql += " AND NOT (type = 'ordering.watch.TimedOut' AND due_at IS NOT NULL)"
            total += self.query(sql)[0][0]
        return total

    def quarantined(self) -> int:
        """Return how many received messages were quarantined."""
        return len(self.query("SELECT 1 FROM outbox_inbox_quarantinedmessage"))


@dataclass(frozen=True)
class Stores:
    """The databases of ordering and shipping deployed apart; says what a `Store` of both says."""

    ordering: Store
    shipping: Store

    def ledger(self) -> dict[tuple[str, str], list[int]]:
        # The shop is with ordering, the depot with shipping.
        return {**self.ordering.ledger(["shop_entry"]), **self.shipping.ledger(["depot_pick"])}

    def board(self) -> dict[str, tuple[int, Decimal]]:
        return self.shipping.board()

    def counted(self, table: str) -> dict[str, int]:
        # A table's name begins with the label of its context.
        found: Store = getattr(self, table.partition("_")[0])
        return found.counted(table)

    def unfinished(self) -> int:
        return self.ordering.unfinished() + self.shipping.unfinished()

    def quarantined(self) -> int:
        return self.ordering.quarantined() + self.shipping.quarantined()


@contextmanager
def sqlite_copies(folder: Path) -> Iterator[tuple[Store, Any]]:
    """Yield an empty SQLite database to be migrated, and a function that copies it."""
    template = folder / "template.sqlite3"

    def copy() -> Store:
        path = folder / f"{uuid4().hex}.sqlite3"
        shutil.copy(template, path)
        return Store(f"sqlite:///{path}")

    yield Store(f"sqlite:///{template}"), copy


@contextmanager
def postgres_copies(url: str) -> Iterator[tuple[Store, Any]]:
    """Yield an empty PostgreSQL database to be migrated, and a function that copies it."""
    made: list[str] = []
    # A fixture that several modules import is set up for each of them.
    prefix = f"acceptance_outbox_inbox_{os.getpid()}_{secrets.token_hex(4)}"

    def create(name: str, *options: str) -> Store:
        made.append(name)
        execute_alone(url, f"CREATE DATABASE {name} {' '.join(options)}")
        return beside(url, name)

    template = f"{prefix}_template"
    try:
        yield create(template), lambda: create(f"{prefix}_{len(made)}", f"TEMPLATE {template}")
    finally:
        for name in reversed(made):
            execute_alone(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def mysql_copies(url: str) -> Iterator[tuple[Store, Any]]:
    """Yield a database of MariaDB or MySQL, and a function that makes another; it cannot copy one."""
    made: list[str] = []
    prefix = f"acceptance_outbox_inbox_{os.getpid()}_{secrets.token_hex(4)}"

    def create() -> Store:
        made.append(f"{prefix}_{len(made)}")
        with _mysql(url) as cursor:
            cursor.execute(f"CREATE DATABASE {made[-1]}")
        return beside(url, made[-1])

    template = create()
    spare = [template]
    try:
        yield template, lambda: spare.pop() if spare else create()
    finally:
        with _mysql(url) as cursor:
            for name in made:
                cursor.execute(f"DROP DATABASE {name}")


@contextmanager
def _mysql(url: str, database: str = "") -> Iterator[Any]:
    import MySQLdb

    with closing(MySQLdb.connect(**services.mysql_parameters(url), db=database)) as connection:
        yield connection.cursor()


def copies_of(vendor: str, folder: Path) -> AbstractContextManager[tuple[Store, Any]]:
    """Return the copies of a vendor, with the names that TEST_DATABASE has for it."""
    if vendor == "postgres":
        return postgres_copies(services.POSTGRES.url)
    if vendor == "sqlite":
        return sqlite_copies(folder)
    return mysql_copies(services.DATABASES[vendor].url)


def beside(url: str, name: str) -> Store:
    """Return another database of the same server."""
    return Store(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))


def execute_alone(url: str, sql: str) -> None:
    """Execute a statement on PostgreSQL outside of a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)
