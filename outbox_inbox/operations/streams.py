"""Find a stream by its name, and look at its events, also at those that cannot be read any more."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet

from outbox_inbox import streams
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import StoredEvent
from outbox_inbox.queues.statements.dialects import as_datetime

CHUNK = 500  # rows in memory at once

_NEIGHBOURS = 10
_PREFIXES = 50
_CLOSE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEntry:
    """One event of a stream, as somebody looks at it.

    Fields:
        version, position, id, type, schema_version, key, time, correlation_id, causation_id:
            as it was stored.
        data: its fields as JSON text, brought to the newest version; None: it cannot be read.
        problem: why it cannot be read, in one line; None: it can.
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


def holders(owners: Sequence[Context], stream: str) -> list[Context]:
    """Return which of the contexts have a stream of this name."""
    return [each for each in owners if _rows(each).filter(stream=stream).exists()]


def read_entries(
    context: Context, stream: str, *, after: int = 0, limit: int | None = None
) -> Iterator[StreamEntry]:
    """Yield the events of a stream in order of their versions, a few hundred in memory at a time.

    Arguments:
        after: skip the events up to and including this version; default 0, none.
        limit: how many at most; default None, all.
    """
    # Page by page: drivers of MySQL bring all rows of a result at once, whatever they are asked.
    rows = _rows(context).filter(stream=stream).order_by("version")
    left = limit
    while left is None or left > 0:
        size = CHUNK if left is None else min(CHUNK, left)
        page = list(rows.filter(version__gt=after)[:size])
        for row in page:
            yield _seen(context, row)
        if len(page) < size:
            return
        after = page[-1].version
        left = None if left is None else left - size


def similar(owners: Sequence[Context], stream: str, most: int = 3) -> list[str]:
    """Return names of streams that are like this one, the likeliest first.

    It looks where an index leads: at the neighbours in alphabetical order, and at the same end
    behind other beginnings, such as ``order-10248`` for ``oder-10248``.
    """
    found = {name: _likeness(name, stream) for each in owners for name in _near(each, stream)}
    close = [name for name in found if found[name] >= _CLOSE]
    return sorted(close, key=lambda name: (-found[name], name))[:most]


def _rows(context: Context) -> QuerySet[StoredEvent]:
    return StoredEvent.objects.using(context.database).filter(context=context.label)


def _near(context: Context, stream: str) -> Iterator[str]:
    # Each stream has one first event, so this is its name without DISTINCT.
    names = _rows(context).filter(version=1).order_by("stream").values_list("stream", flat=True)
    yield from names.filter(stream__gt=stream)[:_NEIGHBOURS]
    yield from names.filter(stream__lt=stream).reverse()[:_NEIGHBOURS]
    beginning, end = _split(stream)
    prefixes = list(_beginnings(names)) if end else []
    yield from names.filter(stream__in=[f"{each}{end}" for each in prefixes])
    for each in prefixes:
        if _likeness(each, beginning) >= _CLOSE:
            yield from names.filter(stream__gte=f"{each}{end}")[:_NEIGHBOURS]


def _beginnings(names: "QuerySet[StoredEvent, str]") -> Iterator[str]:
    """Yield the beginnings of names, such as ``order-``, by leaps from one to the next."""
    last = ""
    for _ in range(_PREFIXES):
        name = names.filter(stream__gt=last).first()
        if name is None:
            return
        beginning, end = _split(name)
        if end:
            yield beginning
        last = f"{beginning}\U0010ffff" if end else name


def _split(name: str) -> tuple[str, str]:
    """Return the beginning of a name with the sign that ends it, and the rest."""
    found = re.search(r"[\W_]", name)
    return (name[: found.end()], name[found.end() :]) if found else (name, "")


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _seen(context: Context, row: StoredEvent) -> StreamEntry:
    data, problem = _read(context, row)
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


def _read(context: Context, row: StoredEvent) -> tuple[str | None, str | None]:
    try:
        event: Any = streams.recorded_event(context, row).event
        return codec.encode(event), None
    except (OutboxInboxError, TypeError) as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())
