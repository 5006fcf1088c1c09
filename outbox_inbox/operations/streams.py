"""Read the events of a stream for an operator, also those that cannot be decoded."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from outbox_inbox import streams
from outbox_inbox.conf.section import did_you_mean
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import StoredEvent
from outbox_inbox.queues.statements.dialects import as_datetime

CHUNK = 500  # rows in memory at once

_NEIGHBOURS = 10

_PARSED = {
    "stored_id": "message_id",
    "stored_time": "recorded_at",
    "stored_correlation_id": "correlation_id",
    "stored_causation_id": "causation_id",
}
_SPOILT = (ValueError, TypeError, AttributeError)  # what a field raises for a value it cannot parse


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One event of a stream, as an operator reads it.

    Fields:
        version, position, id, type, schema_version, key, time, correlation_id, causation_id:
            as it was stored. An id or a time that cannot be parsed is the stored text.
        data: its fields as JSON text, in the newest version; None: it cannot be decoded.
        problem: why it cannot be decoded, in one line; None: it can.
        payload, headers: the texts that are stored.
    """

    version: int
    position: int
    id: UUID | str
    type: str
    schema_version: int
    key: str | None
    time: datetime | str
    correlation_id: UUID | str
    causation_id: UUID | str | None
    data: str | None
    problem: str | None
    payload: str
    headers: str


def contexts_with_stream(chosen: Sequence[Context], stream: str) -> list[Context]:
    """Return which of the contexts have a stream of this name."""
    return [each for each in chosen if _rows(each).filter(stream=stream).exists()]


def suggest_stream(chosen: Sequence[Context], stream: str) -> str:
    """Return ``; did you mean 'x'?`` when a stream beside this name in the index is close to it."""
    names: set[str] = set()
    for context in chosen:
        # Each stream has one first event, so this finds every name once.
        found = _rows(context).filter(version=1).order_by("stream").values_list("stream", flat=True)
        names.update(found.filter(stream__gt=stream)[:_NEIGHBOURS])
        names.update(found.filter(stream__lt=stream).reverse()[:_NEIGHBOURS])
    return did_you_mean(stream, sorted(names))


def read_entries(
    context: Context, stream: str, *, after: int = 0, limit: int | None = None
) -> Iterator[StreamEntry]:
    """Yield the events of a stream in order of their versions, a few hundred in memory at a time.

    Arguments:
        after: skip the events up to and including this version; default 0, none.
        limit: how many at most; default None, all.
    """
    # Page by page: drivers of MySQL load all rows of a result, also with iterator().
    rows = _rows(context).filter(stream=stream).order_by("version")
    left = sys.maxsize if limit is None else limit
    while left > 0:
        size = min(CHUNK, left)
        versions = list(rows.filter(version__gt=after).values_list("version", flat=True)[:size])
        among = rows.filter(version__in=versions)
        try:
            page = [_entry(context, row) for row in among]
        except _SPOILT:
            for version in versions:  # one by one: only the spoilt ones cannot be read
                yield _read_entry(context, rows.filter(version=version))
        else:
            yield from page
        if len(versions) < size:
            return
        after, left = versions[-1], left - size


def _rows(context: Context) -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(context.database).filter(context=context.label)


def _read_entry(context: Context, rows: QuerySet[StoredEvent]) -> StreamEntry:
    """Return one event; of one whose ids or time cannot be parsed, the texts that are stored."""
    try:
        return _entry(context, rows.get())
    except _SPOILT as error:
        plain = "version", "position", "type", "schema_version", "key", "payload", "headers"
        texts = {name: Cast(field, TextField()) for name, field in _PARSED.items()}
        found: dict[str, Any] = dict(rows.annotate(**texts).values(*plain, *texts).get())
        stored = {name.removeprefix("stored_"): found.pop(name) for name in texts}
        problem = " ".join(f"its row was spoilt: {type(error).__name__}: {error}".split())
        return StreamEntry(**found, **stored, data=None, problem=problem)


def _entry(context: Context, row: StoredEvent) -> StreamEntry:
    data = problem = None
    try:
        event: Any = streams.recorded_event(context, row).event
        data = codec.encode(event)
    except (OutboxInboxError, TypeError) as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
    return StreamEntry(
        version=row.version,
        position=row.position,
        id=row.message_id,
        type=row.type,
        schema_version=row.schema_version,
        key=row.key,
        time=as_datetime(connections[context.database], row.recorded_at),
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        data=data,
        problem=problem,
        payload=row.payload,
        headers=row.headers,
    )
