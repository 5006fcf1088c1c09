"""The statements that ask who listens: what subscriptions and read models want, as it is stored."""

from collections.abc import Sequence

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import INTEREST, fetch_rows
from .dialects import dialect


def select_subscribers(
    connection: BaseDatabaseWrapper, types: Sequence[str]
) -> list[tuple[str, str, str]]:
    """Return context, alias of its database (empty: this one) and type of each subscription."""
    sql = dialect(connection)
    rows = fetch_rows(
        connection,
        f"SELECT context, alias, type FROM {INTEREST}"
        f" WHERE kind = 'contract' AND retired_at IS NULL AND type {sql.among} ORDER BY context",
        [sql.members(types)],
    )
    return [(row[0], row[1], row[2]) for row in rows]


def subscribed_versions(connection: BaseDatabaseWrapper, context: str) -> dict[str, int]:
    """Return the contracts that a context subscribes to, each with the newest version it reads."""
    rows = fetch_rows(
        connection,
        f"SELECT type, schema_version FROM {INTEREST}"
        " WHERE context = %s AND kind = 'contract' AND alias = '' AND retired_at IS NULL",
        [context],
    )
    return {row[0]: row[1] for row in rows}


def projected_condition(context: str, read_model: str) -> str:
    """Return the condition that a read model wants an event ``s`` of the stream."""
    label, name = (each.replace("'", "''").replace("%", "%%") for each in (context, read_model))
    return (
        f"s.type IN (SELECT i.type FROM {INTEREST} i WHERE i.context = '{label}'"
        f" AND i.kind = 'projection' AND i.name = '{name}' AND i.retired_at IS NULL)"
    )
