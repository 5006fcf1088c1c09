"""Checks of how a database of contexts is configured: by its settings, and by what its server says.

``manage.py check`` reads the settings. What they leave to the server, or to a file of its options, is
asked for by ``manage.py check --database``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.checks import CheckMessage
from django.db import connections

from .messages import error, warning

_NAMES: Final = re.compile(
    r"\bSET\s+(?:NAMES|CHARSET|CHARACTER\s+SET)\s+['\"]?(\w+)"
    r"|\bcharacter_set_(?:client|connection|results)\s*=\s*['\"]?(\w+)",
    re.IGNORECASE,
)
_MODE: Final = re.compile(r"\bsql_mode\s*=\s*(['\"])(.*?)\1", re.IGNORECASE)
_BAD_MODES: Final = {
    "ORACLE": "in which our statements are not the same SQL",
    "EMPTY_STRING_IS_NULL": "in which an empty text cannot be stored",
}


def check_autocommit(alias: str) -> Iterator[CheckMessage]:
    """E020: Django commits nothing, so that each message is moved again and again."""
    if not connections[alias].settings_dict.get("AUTOCOMMIT", True):
        yield error(
            "E020",
            f"The database {alias!r} has queues of contexts and AUTOCOMMIT False, with which Django "
            "commits nothing: no message could be marked as sent or handled.",
            f'Remove "AUTOCOMMIT" from DATABASES["{alias}"].',
        )


def check_isolation(alias: str) -> Iterator[CheckMessage]:
    """W009: a transaction that waited for another does not see what that one committed."""
    connection = connections[alias]
    if connection.vendor != "mysql":
        return
    # Django asks for this level on each connection by default.
    options = connection.settings_dict.get("OPTIONS", {})
    level = options.get("isolation_level", "read committed")
    if str(level).lower() != "read committed":
        named = "leave it to the server" if level is None else f"name {level!r}"
        yield warning(
            "W009",
            f"The database {alias!r} has queues of contexts, and its OPTIONS {named} as the "
            "isolation level.",
            f'Remove "isolation_level" from DATABASES["{alias}"]["OPTIONS"]; the default is "read '
            'committed". With another level, a transaction that has waited to append to a stream '
            "or to lock a partition continues with the rows as they were before.",
        )


def check_options(alias: str) -> Iterator[CheckMessage]:
    """E021, E022: MySQL's OPTIONS name a character set or a mode with which messages cannot be kept."""
    connection = connections[alias]
    if connection.vendor != "mysql":
        return
    options: Mapping[str, Any] = connection.settings_dict.get("OPTIONS", {})
    command = str(options.get("init_command", ""))
    # Django asks for utf8mb4 unless OPTIONS say otherwise.
    named = [str(options.get("charset", "utf8mb4"))]
    named += [one or other for one, other in _NAMES.findall(command)]
    modes = [str(options.get("sql_mode", "")), *(mode for _, mode in _MODE.findall(command))]
    where = f'the OPTIONS of DATABASES["{alias}"]'
    yield from _charset_problem(alias, where, named)
    yield from _mode_problem(alias, where, ",".join(modes))


def check_session(alias: str) -> Iterator[CheckMessage]:
    """E021, E022: the same, of what the server says about a connection."""
    connection = connections[alias]
    if connection.vendor != "mysql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT @@character_set_client, @@character_set_connection, @@character_set_results,"
            " @@sql_mode"
        )
        *named, modes = cursor.fetchone()
    yield from _charset_problem(alias, "its server", named)
    yield from _mode_problem(alias, "its server", modes)


def _charset_problem(alias: str, where: str, named: list[str]) -> Iterator[CheckMessage]:
    others = sorted({each for each in named if each.lower() not in ("utf8mb4", "default")})
    if others:
        yield error(
            "E021",
            f"The database {alias!r} has queues of contexts, and {where} gives the connection the "
            f"character set {', '.join(others)}: it does not have every character, so that messages "
            "would be refused, or be changed when they are read.",
            f'Remove "charset" from DATABASES["{alias}"]["OPTIONS"] (the default is utf8mb4), and '
            "SET NAMES from its init_command. Only the connection matters, not the tables.",
        )


def _mode_problem(alias: str, where: str, modes: str) -> Iterator[CheckMessage]:
    given = {each.strip().upper() for each in modes.split(",")}
    for mode in sorted(given & _BAD_MODES.keys()):
        yield error(
            "E022",
            f"The database {alias!r} has queues of contexts, and {where} sets the sql_mode {mode}, "
            f"{_BAD_MODES[mode]}.",
            f'Remove it from the sql_mode of DATABASES["{alias}"]["OPTIONS"], or of the server.',
        )
