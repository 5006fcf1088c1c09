"""An outbox row as a transport gets it."""

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.dialects import as_uuid, as_uuid_or_none, aware
from outbox_inbox.statements import Pending

from .base import OutgoingMessage


def outgoing(connection: BaseDatabaseWrapper, row: Pending) -> OutgoingMessage:
    """Return the message of an outbox row; without text if that was not fetched."""
    return OutgoingMessage(
        row=row.id,
        id=as_uuid(row.message_id),
        type=row.type,
        version=row.schema_version,
        key=row.key,
        key_hash=row.key_hash,
        partition=row.key_hash % settings().partitions.outbox,
        time=aware(connection, row.recorded_at),
        correlation_id=as_uuid(row.correlation_id),
        causation_id=as_uuid_or_none(row.causation_id),
        hops=row.hops,
        headers=row.headers or "{}",
        data=row.payload or "",
    )
