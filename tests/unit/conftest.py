"""What tests of contexts ask for: app packages of their own, and databases that pass the checks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections

from tests.support.packages import Packages


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Packages]:
    """Packages of apps that exist for this test only."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Packages(tmp_path)
    yield made
    made.forget()


@pytest.fixture
def fit_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases that the checks have nothing to say about."""
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
    for connection in connections.all():
        if connection.vendor == "sqlite":
            monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
