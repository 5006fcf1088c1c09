"""What belongs to a context, table by table, and how its rows are read, written and compared.

Values go from database to database as Python values, so the two may be of different vendors, and
without the models' ``save()``: no signal is sent, no ``auto_now`` sets another time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from types import SimpleNamespace
from typing import Any

from django.apps import apps
from django.db import connections, models
from django.db.models import QuerySet
from django.db.models.sql import DeleteQuery, InsertQuery
from django.utils import timezone

from outbox_inbox.contexts.declaring import models_of

CHUNK = 500  # rows in one statement, and in one transaction of the copy that goes ahead

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A table of the queues that goes with its context; a new one is one line in `QUEUES`.

    Fields:
        model: name of the model in outbox_inbox.
        context: the look-up that leads to the context's label.
        frozen: its rows never change, so comparing their keys is enough.
        ids: columns with ids of another table -> name of its model; foreign keys are found.
    """

    model: str
    context: str = "context"
    frozen: bool = False
    ids: Mapping[str, str] = field(default_factory=dict)


QUEUES = (
    Moved(model="StoredEvent", frozen=True),
    Moved(model="OutboxMessage"),
    Moved(model="InboxMessage", frozen=True),
    Moved(model="Delivery"),
    Moved(model="DeliveryAttempt", context="delivery__context", frozen=True),
    Moved(model="QuarantinedMessage"),
    Moved(model="ProcessState"),
)
"""In the order in which they refer to each other."""

APART = frozenset({"Checkpoint", "Partition", "Snapshot", "Transfer"})
"""Models of outbox_inbox whose rows are not copied: each side has its own.

Checkpoints are made on the new side (``checkpoints.py``). Snapshots are made of the stream, and made anew from it: copying them would only keep the context
closed for longer. Those left behind are still good should it come back, since each is bound to the
event that it ends with.
"""

Shifts = Mapping[str, int]
"""Name of a table -> what is added to its ids on the new side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The rows of one table that belong to the context.

    Fields:
        model: the model of the table.
        where: restricts the table to the context's rows; nothing for its own models.
        frozen: the rows never change.
        own: a model of the context's, and no table of the queues.
        shifts: column -> what is added to its value on the new side.
    """

    model: type[models.Model]
    where: Mapping[str, str]
    frozen: bool
    own: bool
    shifts: Mapping[str, int]

    @property
    def name(self) -> str:
        """The name of the table."""
        return str(self.model._meta.db_table)

    @property
    def fields(self) -> list[Any]:
        """The columns that are written; what the database works out by itself is left to it."""
        columns: list[Any] = list(self.model._meta.local_concrete_fields)
        return [each for each in columns if not getattr(each, "generated", False)]

    def rows(self, using: str) -> QuerySet[Any]:
        """Return the context's rows on a database; managers of the model hide nothing."""
        return QuerySet(self.model, using=using).filter(**self.where)

    def windows(self, using: str) -> Iterator[list[Any]]:
        """Yield the primary keys that there are now, in their order, a chunk at a time."""
        rows = self.rows(using).order_by("pk").values_list("pk", flat=True)
        # A writer may be faster than we are: what it adds must not keep us from ever ending.
        last = list(rows.reverse()[:1])
        rows = rows.filter(pk__lte=last[0]) if last else rows.none()
        keys = list(rows[:CHUNK])
        while keys:
            yield keys
            keys = list(rows.filter(pk__gt=keys[-1])[:CHUNK])

    def keys(self, using: str, among: Sequence[Any]) -> set[Any]:
        """Return which of the primary keys exist."""
        return set(self.rows(using).filter(pk__in=among).values_list("pk", flat=True))

    def read(self, using: str, keys: Sequence[Any]) -> dict[Any, Values]:
        """Return primary key -> values of the columns, in the order of ``keys``."""
        names = [each.attname for each in self.fields]
        found = self.rows(using).filter(pk__in=keys).values_list("pk", *names)
        by_key = {row[0]: tuple(map(_plain, row[1:])) for row in found}
        return {key: by_key[key] for key in keys if key in by_key}

    def key_there(self, key: Any, sign: int = 1) -> Any:
        """Return a primary key as it is on the new side; ``sign=-1``: on the old one."""
        shift = self.shifts.get(self.model._meta.pk.attname, 0)
        return key + sign * shift if shift else key

    def there(self, values: Values) -> Values:
        """Return the values of a row as they are on the new side."""
        if not any(self.shifts.values()):
            return values
        return tuple(
            value
            if value is None
            else value + self.shifts[each.attname]
            if each.attname in self.shifts
            else value
            for each, value in zip(self.fields, values, strict=True)
        )

    def insert(self, using: str, rows: Sequence[Values]) -> None:
        """Insert rows as they are."""
        fields = self.fields
        names = [each.attname for each in fields]
        # A row is its columns here; the compiler asks for nothing else of an object.
        objects: list[Any] = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]
        size = max(1, connections[using].ops.bulk_batch_size(fields, objects))
        for start in range(0, len(objects), size):
            query = InsertQuery(self.model)
            query.insert_values(fields, objects[start : start + size], raw=True)
            query.get_compiler(using=using).execute_sql(returning_fields=None)

    def delete(self, using: str, keys: Sequence[Any]) -> None:
        """Delete rows by their primary keys, and nothing that refers to them."""
        for start in range(0, len(keys), CHUNK):
            DeleteQuery(self.model).delete_batch(list(keys[start : start + CHUNK]), using)

    def fingerprint(self, values: Values) -> str:
        """Return what two equal rows have in common, whatever databases they are on."""
        pairs = zip(self.fields, values, strict=True)
        return repr([_canonical(each, value) for each, value in pairs])


def tables_of(label: str, shifts: Shifts) -> list[Table]:
    """Return all that belongs to a context, with what is referred to before what refers to it."""
    return [*map(_own_table, _sorted(own_models(label))), *queue_tables(label, shifts)]


def own_models(label: str) -> list[type[models.Model]]:
    """Return the models of the context that have a table which Django manages."""
    found = models_of(label, with_links=True)
    return [
        each
        for each in found
        if each._meta.managed and not each._meta.proxy and not each._meta.swapped
    ]


def queue_tables(label: str, shifts: Shifts) -> list[Table]:
    """Return the tables of the queues, restricted to a context."""
    return [_queue_table(each, label, shifts) for each in QUEUES]


def model_of(moved: Moved) -> type[models.Model]:
    """Return the model of a table of the queues."""
    return apps.get_model("outbox_inbox", moved.model)


def _own_table(model: type[models.Model]) -> Table:
    return Table(model=model, where={}, frozen=False, own=True, shifts={})


def _queue_table(moved: Moved, label: str, shifts: Shifts) -> Table:
    model = model_of(moved)
    known = {model_of(each)._meta.db_table for each in QUEUES}
    columns: dict[str, str] = {model._meta.pk.attname: model._meta.db_table}
    for each in model._meta.local_concrete_fields:
        related = each.related_model
        if isinstance(related, type) and related._meta.db_table in known:
            columns[each.attname] = related._meta.db_table
    for name, other in moved.ids.items():
        columns[name] = apps.get_model("outbox_inbox", other)._meta.db_table
    return Table(
        model=model,
        where={moved.context: label},
        frozen=moved.frozen,
        own=False,
        shifts={name: shifts.get(table, 0) for name, table in columns.items()},
    )


def _sorted(found: Sequence[type[models.Model]]) -> list[type[models.Model]]:
    needs = {each: {*_referred(each)} & {*found} - {each} for each in found}
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError:
        # The order only spares the copy that goes ahead some detours: the last part of it is one
        # transaction, and COMMIT asks whether all references are good.
        return list(found)


def _referred(model: type[models.Model]) -> Iterator[type[models.Model]]:
    for each in model._meta.local_concrete_fields:
        if isinstance(each.related_model, type):
            yield each.related_model


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


_BUILT_IN = (str, bytes, int, float, type(None))


def _canonical(column: Any, value: Any) -> Any:
    if isinstance(value, datetime) and timezone.is_aware(value):
        return value.astimezone(UTC)
    if not isinstance(value, _BUILT_IN) and repr(value).startswith("<"):
        # It may only say where in memory it is; its field knows how to write it down.
        return column.value_to_string(SimpleNamespace(**{column.attname: value}))
    return value
