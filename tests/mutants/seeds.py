"""Migrated SQLite databases that one run leaves for the next: migrating takes most of a short run.

They hold what ``migrate`` has made, so they are not for an edit of a model or a migration.
"""

import os
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.db.backends.sqlite3.creation import DatabaseCreation

from .source import PACKAGE, Edit

UNFIT = tuple(Path(PACKAGE, name) for name in ("models", "migrations"))


def fits(edit: Edit) -> bool:
    """Return whether an edit leaves the tables as they are."""
    return not any(edit.file.is_relative_to(folder) for folder in UNFIT)


def use_seeds(folder: Path) -> None:
    """Begin each test database of this process with the one in a folder, or leave one there."""
    make_file, make = DatabaseCreation._create_test_db, DatabaseCreation.create_test_db

    def create_file(self: DatabaseCreation, *arguments: Any) -> str:
        name = make_file(self, *arguments)
        if (seed := _seed(folder, self)).exists():
            shutil.copyfile(seed, name)
        return name

    def create(self: DatabaseCreation, *arguments: Any, **options: Any) -> str:
        name = make(self, *arguments, **options)
        if not (seed := _seed(folder, self)).exists():
            own = seed.with_suffix(f".{os.getpid()}")
            with self.connection.cursor() as cursor:
                cursor.execute(f"VACUUM INTO '{own}'")
            own.replace(seed)  # another job may do the same
        return name

    patch.object(DatabaseCreation, "_create_test_db", create_file).start()
    patch.object(DatabaseCreation, "create_test_db", create).start()


def _seed(folder: Path, creation: DatabaseCreation) -> Path:
    return folder / f"{creation.connection.alias}.sqlite3"
