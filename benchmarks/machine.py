"""The machine that the figures come from: without it they mean nothing."""

import os
import platform
from pathlib import Path

import django
import pydantic
from django.db import connection


def machine() -> dict[str, str]:
    """Return what the figures depend on, by its name."""
    return {
        "processors": f"{os.cpu_count()} cores, {_model()}",
        "load": ", ".join(f"{each:.2f}" for each in os.getloadavg()) + " (1, 5, 15 minutes)",
        "python": f"{platform.python_version()}, Django {django.get_version()}, "
        f"pydantic {pydantic.VERSION}",
        **(_postgresql() if connection.vendor == "postgresql" else _sqlite()),
    }


def _model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _postgresql() -> dict[str, str]:
    import psycopg

    return {
        "database": f"PostgreSQL {_fetch_value('SHOW server_version')}, psycopg {psycopg.__version__}",
        "synchronous_commit": _fetch_value("SHOW synchronous_commit"),
        "fsync": _fetch_value("SHOW fsync"),
    }


def _sqlite() -> dict[str, str]:
    return {
        "database": f"SQLite {_fetch_value('SELECT sqlite_version()')}",
        "journal_mode": _fetch_value("PRAGMA journal_mode"),
        "synchronous": _fetch_value("PRAGMA synchronous"),
    }


def _fetch_value(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0])
