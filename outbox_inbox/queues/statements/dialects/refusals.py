"""What the error of a statement is about: the values of a row, its table, or the state of the server.

Only the first is the fault of one message: the next message would meet the others as well. Django's
classes do not say it: "read-only" is an InternalError, an OperationalError or a ProgrammingError,
depending on the server.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.apps import apps
from django.db import DataError, Error, IntegrityError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from . import error_chain, gave_way


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signs:
    """What distinguishes the errors of one vendor: beginnings of a code, or for SQLite parts of the text.

    Fields:
        values: one row does not fit, and another one may.
        tables: a table or column is missing, or the user has no rights to it.
        server: nothing of the kind works now, whatever the statement is.
        transaction: it or a savepoint is gone or aborted, by what was done in it before.
    """

    values: tuple[str, ...]
    tables: tuple[str, ...]
    server: tuple[str, ...]
    transaction: tuple[str, ...]


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SIGNS: Final = {
    "postgresql": _Signs(
        values=("22", "23", "54"),
        tables=("42P01", "42703", "42501", "3F000"),
        # Connection, login, database gone; read-only; no space, memory or connections left; an
        # operator ends sessions, or the server starts; its disk.
        server=("08", "28", "3D000", "25006", "53", "57P", "58"),
        transaction=("25P01", "25P02", "3B001"),
    ),
    "mysql": _Signs(
        values=_codes("1118 1153 1264 1292 1300 1301 1366 1406 3988"),
        tables=_codes("1054 1142 1143 1146"),
        # Connections and logins (1040 to 1053, 1130 to 1161, 1203, 1226, 2002 to 2055, 3032, 3168,
        # 3169); files, disk and memory (1015 to 1041, 1114, 1180); read-only (1290, 1792, 1836);
        # replication and clusters (1047, 3100).
        server=_codes(
            "1015 1016 1017 1021 1026 1030 1037 1040 1041 1044 1045 1047 1049 1053 1114 1129 1130"
            " 1152 1158 1159 1160 1161 1180 1203 1226 1290 1698 1792 1836 2002 2003 2005 2006 2013"
            " 2026 2055 3032 3100 3168 3169"
        ),
        transaction=_codes("1305"),
    ),
    "sqlite": _Signs(
        values=("too big",),
        tables=("no such table", "no such column", "has no column named"),
        server=(
            "readonly database",
            "disk is full",
            "unable to open database file",
            "disk I/O error",
            "is not a database",
            "is malformed",
        ),
        transaction=("no such savepoint", "no transaction is active"),
    ),
}


def blames_values(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Return whether a statement failed by the values of one row."""
    if isinstance(error, DataError | IntegrityError):
        return True
    signs = _SIGNS.get(connection.vendor)
    return signs is not None and _shows(connection, error, signs.values)


def blames_transaction(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Return whether a statement failed by what was done to its transaction before."""
    if isinstance(error, TransactionManagementError):
        return True
    signs = _SIGNS.get(connection.vendor)
    return signs is not None and _shows(connection, error, signs.transaction)


def blames_server(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Return whether the server can do nothing of the kind now, whatever the statement is."""
    signs = _SIGNS.get(connection.vendor)
    return signs is not None and _shows(connection, error, signs.server)


def blames_our_tables(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Return whether one of our own tables is missing, is of other code, or may not be used."""
    signs = _SIGNS.get(connection.vendor)
    # Every server quotes the table. By its whole name: that of the database may begin like ours.
    return (
        signs is not None
        and _shows(connection, error, signs.tables)
        and _our_tables().search(str(error)) is not None
    )


@cache
def _our_tables() -> re.Pattern[str]:
    models = apps.get_app_config("outbox_inbox").get_models()
    return re.compile(rf"\b({'|'.join(re.escape(each._meta.db_table) for each in models)})\b")


def is_contention(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Return whether a statement waited too long for another transaction, or gave way to it."""
    return gave_way(connection, error) or "is locked" in str(error)


def _shows(connection: BaseDatabaseWrapper, error: Exception, signs: tuple[str, ...]) -> bool:
    if not isinstance(error, Error):
        return False
    if connection.vendor == "sqlite":
        return any(sign in str(error) for sign in signs)
    codes = (_code(connection.vendor, each) for each in error_chain(error))
    code = next(filter(None, codes), "")
    return code in signs if connection.vendor == "mysql" else code.startswith(signs)


def _code(vendor: str, error: Any) -> str:
    if vendor == "postgresql":
        # psycopg 3 and 2 name it differently; Django's error is raised from theirs.
        return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""
    number = error.args[0] if error.args else None
    return str(number) if isinstance(number, int) else ""
