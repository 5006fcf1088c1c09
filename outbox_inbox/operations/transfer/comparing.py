"""Compares a context's rows on two databases, and makes the new side like the old one.

Everything here may be stopped at any moment and done again: what is there already is left alone.
Rows are looked up by their keys and never by ranges of them, since two databases may sort texts
differently.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError

from outbox_inbox.conf import faults
from outbox_inbox.queues.outcome import ignore

from .digests import comparable, digest
from .tables import CHUNK, Table, Values
from .writing import writing

Advance = Callable[[int], None]


@dataclass(slots=True)
class Difference:
    """Where the new side of a table is not like the old one.

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


def copy_ahead(table: Table, label: str, old: str, new: str, advance: Advance = ignore) -> int:
    """Copy what is missing while everything goes on, a transaction a chunk; return how many.

    What changes meanwhile, and what does not fit yet (a row whose counterpart comes later), is
    left to `equalise`.
    """
    copied = 0
    for keys in table.windows(old):
        have = table.keys(new, [table.key_there(key) for key in keys])
        missing = [key for key in keys if table.key_there(key) not in have]
        if missing:
            rows = [table.there(values) for values in table.read(old, missing).values()]
            copied += _insert(table, label, new, rows)
            faults.point("transfer.after_chunk")
        advance(len(keys))
    return copied


def _insert(table: Table, label: str, new: str, rows: Sequence[Values]) -> int:
    try:
        with writing(label, new):
            table.insert(new, rows)
    except IntegrityError:
        return 0
    return len(rows)


def compare(
    table: Table, old: str, new: str, advance: Advance = ignore, *, values: bool = True
) -> Difference:
    """Compare the two sides of a table.

    Arguments:
        values: compare the values; False: the primary keys only.
    """
    found, checksum = Difference(), hashlib.sha256()
    for keys in table.windows(old):
        if not values:
            have = table.keys(new, [table.key_there(key) for key in keys])
            found.missing += [key for key in keys if table.key_there(key) not in have]
        elif not _is_same(table, old, new, keys, checksum):
            _compare_values(table, old, new, keys, found)
        found.rows += len(keys)
        advance(len(keys))
    if table.rows(new).count() != found.rows - len(found.missing):
        found.extra = list(_extra(table, old, new))
    found.checksum = checksum.hexdigest() if values else ""
    return found


def _is_same(table: Table, old: str, new: str, keys: Sequence[Any], checksum: Any) -> bool:
    """Tell whether all of the rows are the same on both sides; False: perhaps."""
    if not comparable(old, new) or table.model._meta.pk.column is None:
        rows = table.read(old, keys).values()
        checksum.update(repr([table.fingerprint(row) for row in rows]).encode())
        return False
    here = digest(table, old, keys, old=True)
    checksum.update(here.encode())
    return here == digest(table, new, [table.key_there(key) for key in keys], old=False)


def _compare_values(
    table: Table, old: str, new: str, keys: Sequence[Any], found: Difference
) -> None:
    there = table.read(new, [table.key_there(key) for key in keys])
    for key, row in table.read(old, keys).items():
        other = there.get(table.key_there(key))
        if other is None:
            found.missing.append(key)
        elif table.fingerprint(table.there(row)) != table.fingerprint(other):
            found.differing.append(key)


def _extra(table: Table, old: str, new: str) -> Iterator[Any]:
    for keys in table.windows(new):
        have = table.keys(old, [table.key_there(key, -1) for key in keys])
        yield from (key for key in keys if table.key_there(key, -1) not in have)


def equalise(tables: Sequence[Table], old: str, new: str, advance: Advance = ignore) -> int:
    """Make the new side like the old one, in the caller's transaction; return how many changed.

    What differs is deleted before anything is inserted, and references are only checked by COMMIT:
    so values that are unique may have changed places.
    """
    found = [
        (table, compare(table, old, new, advance, values=not table.frozen)) for table in tables
    ]
    for table, difference in reversed(found):
        differing = [table.key_there(key) for key in difference.differing]
        table.delete(new, [*difference.extra, *differing])
    for table, difference in found:
        keys = sorted([*difference.missing, *difference.differing])
        for start in range(0, len(keys), CHUNK):
            rows = table.read(old, keys[start : start + CHUNK]).values()
            table.insert(new, [table.there(values) for values in rows])
    return sum(difference.total for _, difference in found)
