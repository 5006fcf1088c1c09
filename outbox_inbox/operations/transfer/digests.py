"""Compares many rows by one number each side, worked out close to the rows.

While both sides are closed somebody waits for us: reading every value into Python twice would take
most of that time. Two databases of one vendor write a value down in one and the same way, so equal
digests mean equal rows; unequal ones mean that the rows have to be looked at one by one.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from django.db import connections

from .tables import Table


def comparable(old: str, new: str) -> bool:
    """Tell whether digests from the two databases can be compared."""
    return connections[old].vendor == connections[new].vendor


def digest(table: Table, using: str, keys: Sequence[Any], *, old: bool) -> str:
    """Return one number for the rows with these primary keys, as they are on the new side.

    Arguments:
        keys: in the form of this side.
        old: this is the old side, so that ids have to be shifted.
    """
    connection = connections[using]
    quoted = connection.ops.quote_name
    pk: Any = table.model._meta.pk
    columns = ", ".join(_column(table, each, quoted, old=old) for each in table.fields)
    values = [pk.get_db_prep_value(key, connection) for key in keys]
    places = ", ".join(["%s"] * len(values))
    where = f"FROM {quoted(table.name)} WHERE {quoted(pk.column)} IN ({places})"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Not in the order of the keys: two databases may sort texts differently.
            cursor.execute(
                "SELECT md5(string_agg(hash, '' ORDER BY hash COLLATE \"C\"))"
                f" FROM (SELECT md5(CAST(ROW({columns}) AS text)) AS hash {where}) AS hashes",
                values,
            )
            return str(cursor.fetchone()[0])
        cursor.execute(f"SELECT {columns} {where} ORDER BY {quoted(pk.column)}", values)
        return hashlib.sha256(repr(cursor.fetchall()).encode()).hexdigest()


def _column(table: Table, column: Any, quoted: Any, *, old: bool) -> str:
    shift = table.shifts.get(column.attname, 0) if old else 0
    name = str(quoted(column.column))
    return f"{name} + {shift:d}" if shift else name
