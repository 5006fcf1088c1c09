"""Read the events of a stream for an operator, also those that cannot be decoded."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from outbox_inbox import streams
from outbox_inbox.conf.section import did_you_mean
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import StoredEvent
from outbox_inbox.queues.statements.dialects import as_datetime

CHUNK = 500  # rows in memory at once

_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One event of a stream, as an operator reads it.

    Fields:
        version, position, id, type, schema_version, key, time, correlation_id, causation_id:
            as it was stored.
        data: its fields as JSON text, in the newest version; None: it cannot be decoded.
        problem: why it cannot be decoded, in one line; None: it can.
        payload, headers: the texts that are stored.
    """

    version: int
    position: int
    id: UUID
    type: str
    schema_version: int
    key: str | None
    time: datetime
    correlation_id: UUID
    causation_id: UUID | None
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
        page = list(rows.filter(version__gt=after)[:size])
        yield from (_entry(context, row) for row in page)
        if len(page) < size:
            return
        after, left = page[-1].version, left - size


def _rows(context: Context) -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(context.database).filter(context=context.label)


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
