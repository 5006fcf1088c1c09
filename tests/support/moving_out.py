"""Processes of `tests.split`, from which billing moves out: the monolith, and billing's own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.acceptance.store import Store, copies_of
from tests.conftest import TEST_DATABASE
from tests.support.deployments import PATIENCE, ROOT

COMMAND = "prepare_context_database"


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


@dataclass
class MovingOut:
    """Billing's database, as the monolith has left it, and the processes that are started on it.

    Fields:
        store: billing's database.
        settings: further environment variables of billing's own process.
    """

    store: Store
    settings: dict[str, str] = field(default_factory=dict)

    def own(self, *arguments: str, **settings: str) -> Said:
        """Run a command in billing's own process."""
        own = {"CONTEXTS": "billing", "DATABASE_URL": self.store.url}
        return run(*arguments, **{**own, **self.settings, **settings})

    def prepare(self, *options: str, **settings: str) -> Said:
        """Run the command in billing's own process."""
        return self.own(COMMAND, "billing", *options, **settings)

    def monolith(self, *arguments: str, **settings: str) -> Said:
        """Run a command in the monolith, which has billing's database as the alias `apart`."""
        apart = {"DATABASE_URL": "sqlite://:memory:", "BILLING_DATABASE_URL": self.store.url}
        return run(*arguments, **{**apart, **settings})

    def tables(self) -> set[str]:
        """Return the names of the tables."""
        sql = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
            "postgres": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
        }.get(
            TEST_DATABASE,
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
        )
        return {row[0] for row in self.store.query(sql)}

    def recorded(self) -> list[tuple[Any, ...]]:
        """Return what is recorded in `django_migrations`."""
        return self.store.query("SELECT app, name FROM django_migrations ORDER BY app, name")

    def state(self) -> object:
        """Return what a command that is refused must leave as it was."""
        return self.tables(), self.recorded()


def run(*arguments: str, **settings: str) -> Said:
    """Run a management command of `tests.split` to its end."""
    environment = {**os.environ, **settings, "DJANGO_SETTINGS_MODULE": "tests.split.settings"}
    done = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@contextmanager
def databases_of_billing(folder: Path) -> Iterator[Callable[[], MovingOut]]:
    """Yield a function that returns a database which the monolith has migrated, with an invoice."""
    with copies_of(TEST_DATABASE, folder) as (template, copy):
        first = MovingOut(template)
        if TEST_DATABASE in {"sqlite", "postgres"}:
            _fill(first)

        def made() -> MovingOut:
            found = MovingOut(copy())
            if not found.tables():
                _fill(found)
            return found

        yield made


def _fill(moving: MovingOut) -> None:
    done = moving.monolith("migrate", "--database", "apart", "--verbosity", "0")
    assert done.status == 0, done.err
    moving.store.execute("INSERT INTO billing_invoice (number, author_id) VALUES ('1', 7)")
