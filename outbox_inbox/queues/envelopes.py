"""Envelopes of stored messages: the one place that knows which column is which field."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.events import codec
from outbox_inbox.events.envelope import Envelope
from outbox_inbox.models import StoredEvent

from .statements import EventRow, ReadyRow
from .statements.dialects import as_datetime, as_uuid, as_uuid_or_none
from .statements.stream_pages import StreamRow


def envelope_of(
    connection: BaseDatabaseWrapper,
    row: EventRow | ReadyRow | StreamRow | StoredEvent,
    source: str,
    recorded_at: Any,
) -> Envelope:
    """Return the envelope of a row of the outbox, the inbox or a stream.

    ``source``: the label of the context that recorded it; ``recorded_at``: as the row has it.
    """
    return Envelope(
        id=as_uuid(row.message_id),
        type=row.type,
        version=row.schema_version,
        source=source,
        key=row.key,
        time=as_datetime(connection, recorded_at),
        correlation_id=as_uuid(row.correlation_id),
        causation_id=as_uuid_or_none(row.causation_id),
        headers=codec.decode_headers(row.headers or "{}"),
        data=row.payload or "",
    )
