"""Compares a context's rows on two databases, and makes the new side equal to the old one.

Every function may be stopped at any moment and repeated: rows that are there already stay as they
are. Rows are looked up by their keys and never by ranges of keys, since two databases may sort
texts differently.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, connections

from outbox_inbox.conf import faults

from .guards import unguarded_transaction
from .tables import CHUNK, Table

Advance = Callable[[int], None]


@dataclass(slots=True)
class Difference:
    """Where the new side of a table is not equal to the old one.

    Fields:
        missing, differing: primary keys on the old side.
        extra: primary keys on the new side of rows that the old one does not have.
        rows: how many the old side has.
        checksum: of the rows, when their values were compared.
    """

    missing: list[Any] = field(default_factory=list)
    differing: list[Any] = field(default_factory=list)
    extra: list[Any] = field(default_factory=list)
    rows: int = 0
    checksum: str = ""

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.missing) + len(self.differing) + len(self.extra)


def copy_missing(table: Table, label: str, old: str, new: str, advance: Advance) -> int:
    """Copy the missing rows while the context goes on, a transaction a chunk; return how many.

    Rows that change meanwhile, and rows that do not fit yet (one refers to a row that comes
    later), are left to `equalise`.
    """
    copied = 0
    for keys in table.key_pages(old):
        have = table.existing_keys(new, [table.new_key(key) for key in keys])
        missing = [key for key in keys if table.new_key(key) not in have]
        if missing:
            rows = [table.new_values(values) for values in table.read_rows(old, missing).values()]
            with suppress(IntegrityError):  # also at COMMIT
                with unguarded_transaction(label, new):
                    table.insert_rows(new, rows)
                copied += len(rows)
            faults.point("transfer.after_chunk")
        advance(len(keys))
    return copied


def compare_table(
    table: Table, old: str, new: str, advance: Advance, *, values: bool = True
) -> Difference:
    """Compare the two sides of a table.

    Arguments:
        values: compare the values; False: the primary keys only.
    """
    found, checksum = Difference(), hashlib.sha256()
    for keys in table.key_pages(old):
        if not values:
            have = table.existing_keys(new, [table.new_key(key) for key in keys])
            found.missing += [key for key in keys if table.new_key(key) not in have]
        elif not _digests_match(table, old, new, keys, checksum):
            _compare_values(table, old, new, keys, found)
        found.rows += len(keys)
        advance(len(keys))
    if table.rows(new).count() != found.rows - len(found.missing):
        for keys in table.key_pages(new):
            have = table.existing_keys(old, [table.old_key(key) for key in keys])
            found.extra += [key for key in keys if table.old_key(key) not in have]
    found.checksum = checksum.hexdigest() if values else ""
    return found


def _digests_match(table: Table, old: str, new: str, keys: Sequence[Any], checksum: Any) -> bool:
    """Return whether all of the rows are the same on both sides; False: they may be.

    Both sides are closed meanwhile, and reading every value into Python would take most of that
    time. Two databases of one vendor write a value as text in the same way, so equal digests mean
    equal rows; after different ones the rows are compared one by one.
    """
    same_vendor = connections[old].vendor == connections[new].vendor
    if not same_vendor or table.model._meta.pk.column is None:
        rows = table.read_rows(old, keys).values()
        checksum.update(repr([table.fingerprint(row) for row in rows]).encode())
        return False
    digest = _digest(table, old, keys, table.shifts)
    checksum.update(digest.encode())
    return digest == _digest(table, new, [table.new_key(key) for key in keys], {})


def _digest(table: Table, using: str, keys: Sequence[Any], shifts: Mapping[str, int]) -> str:
    """Return a hash of the rows with these primary keys, with shifts added to the columns' values."""
    connection = connections[using]
    quoted = connection.ops.quote_name
    pk: Any = table.model._meta.pk
    columns = ", ".join(
        f"{quoted(each.column)} + {shift:d}"
        if (shift := shifts.get(each.attname, 0))
        else str(quoted(each.column))
        for each in table.fields
    )
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


def _compare_values(
    table: Table, old: str, new: str, keys: Sequence[Any], found: Difference
) -> None:
    new_rows = table.read_rows(new, [table.new_key(key) for key in keys])
    for key, row in table.read_rows(old, keys).items():
        new_row = new_rows.get(table.new_key(key))
        if new_row is None:
            found.missing.append(key)
        elif table.fingerprint(table.new_values(row)) != table.fingerprint(new_row):
            found.differing.append(key)


def equalise(tables: Sequence[Table], old: str, new: str, advance: Advance) -> int:
    """Make the new side equal to the old one, in the caller's transaction; return how many changed.

    Differing rows are deleted before any row is inserted, and references are checked by COMMIT
    only: so unique values may have changed places between two rows.
    """
    found = [
        (table, compare_table(table, old, new, advance, values=not table.frozen))
        for table in tables
    ]
    for table, difference in reversed(found):
        differing = [table.new_key(key) for key in difference.differing]
        table.delete_rows(new, [*difference.extra, *differing])
    for table, difference in found:
        keys = sorted([*difference.missing, *difference.differing])
        for start in range(0, len(keys), CHUNK):
            rows = table.read_rows(old, keys[start : start + CHUNK]).values()
            table.insert_rows(new, [table.new_values(values) for values in rows])
    return sum(difference.total for _, difference in found)
