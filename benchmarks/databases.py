"""The database of a run: created before it, and dropped after it, also after an error."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings

DEFAULT_URL = "postgres://postgres@127.0.0.1:5432/postgres"
ALIASES = ("default", "parked", "finished", "few", "many")
"""Sets of the same tables: empty ones, with old rows (``backlog.py``), with backlogs (``growth.py``)."""


@contextmanager
def prepared(vendor: str, url: str, redis: str) -> Iterator[None]:
    """Configure Django with a new database, and drop it at the end."""
    with _postgresql(url) if vendor == "postgres" else _sqlite() as databases:
        configure(databases, ("context_a",), **_deployment(redis))
        _migrate()
        try:
            yield
        finally:
            django.db.connections.close_all()


def _deployment(redis: str) -> dict[str, Any]:
    """Return OUTBOX_INBOX: only the contexts of the transport benchmarks use Redis."""
    prefix = f"bench-outbox-inbox-{os.getpid()}"
    servers = {
        alias: {"LOCATION": redis, "OPTIONS": {"PREFIX": f"{prefix}-{alias}"}}
        for alias in ("redis", "growth-few", "growth-many")
    }
    return {
        "TRANSPORTS": {"default": "local://", **servers},
        "CONTEXTS": {"mall": {"transport": "redis"}, "branch": {"transport": "redis"}},
    }


def configure(databases: dict[str, Any], more: Sequence[str] = (), **outbox_inbox: Any) -> None:
    """Set Django up on some databases, with more apps; the rest are keys of OUTBOX_INBOX."""
    settings.configure(
        SECRET_KEY="unused",
        DATABASES=databases,
        INSTALLED_APPS=[
            "outbox_inbox",
            "benchmarks.store",
            "benchmarks.mall",
            "benchmarks.branch",
            *more,
        ],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        DEBUG=False,
        OUTBOX_INBOX=outbox_inbox,
    )
    django.setup()


def _migrate() -> None:
    from django.core.management import call_command

    for alias in ALIASES:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)


@contextmanager
def _postgresql(url: str) -> Iterator[dict[str, Any]]:
    """One database with a schema for each alias."""
    import psycopg

    name = f"bench_outbox_inbox_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    try:
        with psycopg.connect(url, dbname=name, autocommit=True) as database:
            for alias in ALIASES:
                database.execute(f'CREATE SCHEMA "{alias}"')
        yield {alias: _entry(url, name, alias) for alias in ALIASES}
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _entry(url: str, name: str, schema: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": name,
        "OPTIONS": {"options": f'-c search_path="{schema}"'},
    }


@contextmanager
def _sqlite() -> Iterator[dict[str, Any]]:
    """One file for each alias, as durable as the README recommends."""
    with tempfile.TemporaryDirectory(prefix="bench_outbox_inbox-") as folder:
        yield {
            alias: {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": Path(folder) / f"{alias}.sqlite3",
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
                    "timeout": 20,
                },
            }
            for alias in ALIASES
        }
