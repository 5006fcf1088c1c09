"""The message that a transport gets, made from a row of the outbox or of the stream."""

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.statements.dialects import as_datetime, as_uuid, as_uuid_or_none
from outbox_inbox.queues.statements.stream_pages import StreamRow

from .base import OutgoingMessage


def outgoing(
    connection: BaseDatabaseWrapper, row: PendingRow | StreamRow, partition: int
) -> OutgoingMessage:
    """Return the message of a row of an outbox partition; without text if that was not fetched."""
    return OutgoingMessage(
        row=row.id,
        id=as_uuid(row.message_id),
        type=row.type,
        version=row.schema_version,
        key=row.key,
        key_hash=row.key_hash,
        partition=partition,
        time=as_datetime(connection, row.recorded_at),
        correlation_id=as_uuid(row.correlation_id),
        causation_id=as_uuid_or_none(row.causation_id),
        hops=row.hops,
        headers=row.headers or "{}",
        data=row.payload or "",
        stored=isinstance(row, StreamRow),
    )
