"""Keeps the automatic ids of rows to which other tables refer, when new rows replace the old ones.

The projection creates its rows anew, and the database numbers them anew. A foreign key of another table
would then lead to another row, and no constraint would notice. So the new row gets the id of the old row
with the same values in a unique field, and a row without an old one gets an id that no row ever had.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models
from django.db.backends.utils import truncate_name
from django.db.models import NOT_PROVIDED

from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import table

from .references import has_rows, references_to
from .shadow_tables import Shadow

_Key = tuple[Any, ...]  # fields whose values together are in one row only


class KeptIds:
    """The ids that the new rows of a read model get. All statements run in the caller's transaction."""

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow
        self._models = dict(zip(shadow.tables, shadow.models, strict=True))
        self._keys: dict[str, _Key | None] = {}
        self._stored: list[str] = []  # tables whose new ids are stored, those referred to first

    def require(self) -> None:
        """Raise `OutboxInboxError` if rows refer to a table whose new rows cannot be recognised."""
        for name, model in self._models.items():
            if not _is_automatic(model) or self._key_of(name) is not None:
                continue
            for each in references_to(self.shadow, model):
                if has_rows(self.shadow, each):
                    raise OutboxInboxError(
                        f"rows of {each.table} refer to rows of {name} by an automatic id, and a rebuild "
                        "would give them other ids: nothing says which new row is which old one. "
                        f"Give {model.__name__} a unique field or a UniqueConstraint, or a primary "
                        "key that the projection takes from the event"
                    )

    def store(self) -> None:
        """Store which id each new row gets, before the old rows are deleted."""
        self.require()
        for name, model in self._models.items():
            if _is_automatic(model) and self._key_of(name) and references_to(self.shadow, model):
                self._store_ids(name)

    def selection(self, name: str) -> tuple[list[str], list[str], str]:
        """Return columns, their values and the FROM clause that reads the new rows of a table."""
        columns: list[str] = []
        values: list[str] = []
        source = f"{self.shadow.copy_of(name)} c"
        for field in _columns(self._models[name]):
            column, value = (
                self.shadow.quoted(field.column),
                f"c.{self.shadow.quoted(field.column)}",
            )
            target = name if field.primary_key and name in self._stored else self._target(field)
            if target in self._stored:
                ids = f"m{len(columns)}"
                source += f" LEFT JOIN {self._ids_of(target)} {ids} ON {ids}.made = {value}"
                value = f"{ids}.kept"
            columns.append(column)
            values.append(value)
        return columns, values, source

    def drop(self) -> None:
        """Remove what was stored."""
        for name in self._stored:
            self.shadow.execute(f"DROP TABLE {self._ids_of(name)}")

    def _store_ids(self, name: str) -> None:
        if name in self._stored:
            return
        key = self._key_of(name) or ()
        pk: Any = self._models[name]._meta.pk
        source, same = f"{self.shadow.copy_of(name)} c", []
        for number, field in enumerate(key):
            column = self.shadow.quoted(field.column)
            target, value = self._target(field), f"c.{column}"
            if target and _is_automatic(self._models[target]):
                self._store_ids(target)
                source += f" LEFT JOIN {self._ids_of(target)} m{number} ON m{number}.made = {value}"
                value = f"m{number}.kept"
            same.append(f"l.{column} = {value}")
        column = self.shadow.quoted(pk.column)
        fresh = f"c.{column}"
        if isinstance(pk, models.IntegerField) and pk.column:
            # An id that an old row once had may still be referred to.
            last = self.shadow.last_id(name, pk.column)
            fresh = (
                f"{last} + ROW_NUMBER() OVER (PARTITION BY l.{column} IS NULL ORDER BY c.{column})"
            )
        self.shadow.execute(
            f"CREATE TABLE {self._ids_of(name)} AS SELECT c.{column} AS made,"
            f" COALESCE(l.{column}, {fresh}) AS kept FROM {source}"
            f" LEFT JOIN {self.shadow.quoted(name)} l ON {' AND '.join(same)}"
        )
        self._stored.append(name)

    def _ids_of(self, name: str) -> str:
        longest = self.shadow.connection.ops.max_name_length()
        return self.shadow.copy_of(truncate_name(f"{name}__ids", longest, hash_len=8))

    def _target(self, field: Any) -> str:
        """Return the table of the read model whose primary key a field holds; empty: none."""
        if field.remote_field is None or not field.target_field.primary_key:
            return ""
        name = table(field.target_field.model)
        return name if name in self._models else ""

    def _key_of(self, name: str, *within: str) -> _Key | None:
        """Return the fields by which rows of a table are recognised; None: there are none."""
        if name not in self._keys:
            usable = (
                each for each in _unique(self._models[name]) if self._fits(each, name, *within)
            )
            self._keys[name] = next(usable, None)
        return self._keys[name]

    def _fits(self, key: _Key, *within: str) -> bool:
        """Return whether the tables to which a key refers are recognised themselves."""
        targets = {self._target(field) for field in key} - {""}
        return not targets.intersection(within) and all(
            not _is_automatic(self._models[each]) or self._key_of(each, *within) is not None
            for each in targets
        )


def _columns(model: type[models.Model]) -> Sequence[Any]:
    fields: Any = model._meta.local_concrete_fields
    return [each for each in fields if not each.generated]


def _is_automatic(model: type[models.Model]) -> bool:
    """Return whether the primary key is made up, rather than taken from the event."""
    pk: Any = model._meta.pk
    return pk.concrete and pk.remote_field is None and _has_default(pk)


def _has_default(field: Any) -> bool:
    """Return whether each new row gets another value of a field by itself."""
    return (
        isinstance(field, models.AutoField)
        or (callable(field.default) and field.default is not NOT_PROVIDED)
        or getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
    )


def _unique(model: type[models.Model]) -> Iterator[_Key]:
    """Yield what is unique in a model, as it is declared, without what is made up for each row."""
    options: Any = model._meta
    own = set(_columns(model))
    names = [(each.name,) for each in options.local_concrete_fields if each.unique]
    names += [tuple(each) for each in options.unique_together]
    names += [tuple(each.fields) for each in options.total_unique_constraints]
    for fields in names:
        key = tuple(options.get_field(each) for each in fields)
        if own.issuperset(key) and not any(each.primary_key or _has_default(each) for each in key):
            yield key
