"""What belongs to a context, table by table, and how its rows are read, written and compared.

Values go from database to database as Python values, so the two may be of different vendors. The
models' ``save()`` is not called: it would send signals, and ``auto_now`` would change the times.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import CycleError, TopologicalSorter
from types import SimpleNamespace
from typing import Any

from django.db import connections, models
from django.db.models import QuerySet
from django.db.models.sql import DeleteQuery, InsertQuery
from django.utils import timezone

from outbox_inbox.contexts.declaring import models_of
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    Interest,
    OperatorAction,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
    QueueLayout,
    Snapshot,
    StoredEvent,
    Transfer,
    table,
)

CHUNK = 500  # rows in one statement, and in one transaction of the early copy

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTable:
    """A table of the queues that goes with its context; a new one is one line in `QUEUE_TABLES`.

    Fields:
        context: the look-up that leads to the context's label.
        frozen: its rows never change, so comparing their keys is enough.
    """

    model: type[models.Model]
    context: str = "context"
    frozen: bool = False


QUEUE_TABLES = (
    QueueTable(model=StoredEvent, frozen=True),
    QueueTable(model=OutboxMessage),
    QueueTable(model=InboxMessage, frozen=True),
    QueueTable(model=Delivery),
    QueueTable(model=DeliveryAttempt, context="delivery__context", frozen=True),
    QueueTable(model=QuarantinedMessage),
    QueueTable(model=OperatorAction, frozen=True),
    QueueTable(model=ProcessState),
)
"""In the order in which they refer to each other."""

QUEUE_MODELS = tuple(each.model for each in QUEUE_TABLES)

NOT_COPIED = frozenset({Checkpoint, Interest, Partition, QueueLayout, Snapshot, Transfer})
"""Models of outbox_inbox whose rows are not copied: each side has its own.

Checkpoints, partitions and the layout are made on the new side, and interests are stored there by the first
process that works on it. Snapshots are made from the stream again:
copying them would only keep the context closed for longer. The old ones are still valid should the
context come back, since each is bound to the event that it ends with.
"""

Shifts = Mapping[str, int]
"""Name of a table -> what is added to its ids on the new side."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """The rows of one table that belong to the context.

    Fields:
        where: restricts the table to the context's rows; nothing for its own models.
        frozen: the rows never change.
        own: a model of the context, not a table of the queues.
        shifts: column -> what is added to its value on the new side.
    """

    model: type[models.Model]
    where: Mapping[str, str] = field(default_factory=dict)
    frozen: bool = False
    own: bool = True
    shifts: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the table."""
        return table(self.model)

    @property
    def fields(self) -> list[Any]:
        """The columns that are written: all but those that the database generates."""
        columns: Any = self.model._meta.local_concrete_fields
        return [each for each in columns if not each.generated]

    def rows(self, using: str) -> QuerySet[Any]:
        """Return the context's rows on a database, also those that the model's managers hide."""
        return QuerySet(self.model, using=using).filter(**self.where)

    def key_pages(self, using: str) -> Iterator[list[Any]]:
        """Yield the primary keys that there are now, in their order, a chunk at a time."""
        rows = self.rows(using).order_by("pk").values_list("pk", flat=True)
        # Without an end, a writer that adds rows faster than they are copied keeps the loop alive.
        last = list(rows.reverse()[:1])
        rows = rows.filter(pk__lte=last[0]) if last else rows.none()
        keys = list(rows[:CHUNK])
        while keys:
            yield keys
            keys = list(rows.filter(pk__gt=keys[-1])[:CHUNK])

    def existing_keys(self, using: str, among: Sequence[Any]) -> set[Any]:
        """Return which of the primary keys exist."""
        return set(self.rows(using).filter(pk__in=among).values_list("pk", flat=True))

    def read_rows(self, using: str, keys: Sequence[Any]) -> dict[Any, Values]:
        """Return primary key -> values of the columns, in the order of ``keys``."""
        names = [each.attname for each in self.fields]
        found = self.rows(using).filter(pk__in=keys).values_list("pk", *names)
        by_key = {
            key: tuple(bytes(each) if isinstance(each, memoryview) else each for each in values)
            for key, *values in found
        }
        return {key: by_key[key] for key in keys if key in by_key}

    def new_key(self, key: Any) -> Any:
        """Return a primary key of the old side as it is on the new one."""
        return key + self._key_shift if self._key_shift else key

    def old_key(self, key: Any) -> Any:
        """Return a primary key of the new side as it is on the old one."""
        return key - self._key_shift if self._key_shift else key

    @property
    def _key_shift(self) -> int:
        return self.shifts.get(self.model._meta.pk.attname, 0)

    def new_values(self, values: Values) -> Values:
        """Return the values of a row of the old side as they are on the new one."""
        if not any(self.shifts.values()):
            return values
        return tuple(
            value
            if value is None or each.attname not in self.shifts
            else value + self.shifts[each.attname]
            for each, value in zip(self.fields, values, strict=True)
        )

    def insert_rows(self, using: str, rows: Sequence[Values]) -> None:
        """Insert rows unchanged."""
        fields = self.fields
        names = [each.attname for each in fields]
        # The compiler only reads the attributes of the columns from an object.
        objects: list[Any] = [SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows]
        size = max(1, connections[using].ops.bulk_batch_size(fields, objects))
        for start in range(0, len(objects), size):
            query = InsertQuery(self.model)
            query.insert_values(fields, objects[start : start + size], raw=True)
            query.get_compiler(using=using).execute_sql(returning_fields=None)

    def delete_rows(self, using: str, keys: Sequence[Any]) -> None:
        """Delete rows by their primary keys, without the rows that refer to them."""
        for start in range(0, len(keys), CHUNK):
            DeleteQuery(self.model).delete_batch(list(keys[start : start + CHUNK]), using)

    def fingerprint(self, values: Values) -> str:
        """Return a text that is the same for two equal rows, whatever databases they are on."""
        pairs = zip(self.fields, values, strict=True)
        return repr([_comparable(each, value) for each, value in pairs])


def tables_of(label: str, shifts: Shifts) -> list[Table]:
    """Return all tables of a context; a table comes after those that it refers to."""
    own = [Table(model=each) for each in _by_reference(own_models(label))]
    return [*own, *(_queue_table(each, label, shifts) for each in QUEUE_TABLES)]


def own_models(label: str) -> list[type[models.Model]]:
    """Return the models of the context that have a table which Django manages."""
    found = models_of(label, with_links=True)
    options = ((each, each._meta) for each in found)
    return [each for each, of in options if of.managed and not (of.proxy or of.swapped)]


def _queue_table(queue_table: QueueTable, label: str, shifts: Shifts) -> Table:
    fields: Any = queue_table.model._meta.local_concrete_fields
    tables = {
        each.attname: table(each.related_model or queue_table.model)
        for each in fields
        if each.primary_key or each.related_model
    }
    return Table(
        model=queue_table.model,
        where={queue_table.context: label},
        frozen=queue_table.frozen,
        own=False,
        shifts={column: shifts.get(name, 0) for column, name in tables.items()},
    )


def _by_reference(found: Sequence[type[models.Model]]) -> list[type[models.Model]]:
    needs: dict[Any, set[Any]] = {
        model: {each.related_model for each in model._meta.local_concrete_fields}
        & ({*found} - {model})
        for model in found
    }
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError:
        # The order only spares the early copy failed chunks: the last part of the copy is one
        # transaction, and COMMIT checks the references.
        return list(found)


_BUILT_IN = (str, bytes, int, float, type(None))


def _comparable(column: Any, value: Any) -> Any:
    if isinstance(value, datetime) and timezone.is_aware(value):
        return value.astimezone(UTC)
    if not isinstance(value, _BUILT_IN) and repr(value).startswith("<"):
        # Such a repr only shows an address in memory; the field can write the value as text.
        return column.value_to_string(SimpleNamespace(**{column.attname: value}))
    return value
