"""``local://``: from the outbox directly into the inboxes of this project's other contexts.

On one database this is one transaction, so a message arrives exactly once. With another database
the inbox is committed first and the outbox is marked afterwards (rules O1 and O4); a crash in
between repeats the messages, and the inbox drops the duplicates.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.queues import intake, statements
from outbox_inbox.queues.statements import moved
from outbox_inbox.queues.statements.dialects import time_parameter

from .base import OutgoingMessage, Published, Transport
from .quarantine import quarantine_outgoing


class LocalTransport(Transport):
    """Inserts messages into the inboxes of all contexts of the project that subscribe to them."""

    writes_inboxes = True
    needs_text = False

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; an insert into the same database joins the caller's transaction.

        Raises:
            TransportUnavailable: another database cannot be reached, or a subscriber was moved to
                another database than this process is configured with.
        """
        for subscriber, wanted in _subscribers(messages):
            try:
                if subscriber.database == source.database:
                    _move_rows(source, subscriber, wanted)
                else:
                    _copy_rows(source, subscriber, wanted)
            except DatabaseError as error:
                said = moved.refusal_text(error)
                if said is None:
                    raise
                # A deployment ends it, not a repair, so the back-off stays short.
                raise TransportUnavailable(said, longest=timedelta(seconds=5)) from error
        return Published(sent=[message.row for message in messages])


def _subscribers(
    messages: Sequence[OutgoingMessage],
) -> Iterator[tuple[Context, list[OutgoingMessage]]]:
    for context in contexts():
        wanted = [message for message in messages if message.type in context.subscribed]
        if wanted:
            yield context, wanted


def _move_rows(source: Context, subscriber: Context, messages: Sequence[OutgoingMessage]) -> None:
    faults.point("receive.after_read")
    rows, types = [message.row for message in messages], {each.type for each in messages}
    connection, stored = connections[source.database], messages[0].stored
    into = (subscriber, source.label)
    conflicts = intake.move_messages(connection, rows, *into, types, stored=stored)
    if conflicts:
        quarantine_outgoing(source, subscriber, messages, conflicts)
    faults.point("receive.after_insert")
    transaction.on_commit(_pass_fault_points, using=source.database)


def _copy_rows(source: Context, subscriber: Context, messages: Sequence[OutgoingMessage]) -> None:
    connection, stored = connections[source.database], messages[0].stored
    texts = statements.select_texts(connection, [each.row for each in messages], stored=stored)
    faults.point("receive.after_read")
    rows = [_received_row(subscriber, message, texts[message.row]) for message in messages]
    try:
        with transaction.atomic(using=subscriber.database):
            if intake.insert_messages(rows, subscriber, source.label) < len(rows):
                found = intake.conflicting_rows(rows, subscriber, source.label)
                conflicts = {messages[index].row: error for index, error in found.items()}
                quarantine_outgoing(source, subscriber, messages, conflicts)
            faults.point("receive.after_insert")
    except (OperationalError, InterfaceError) as error:
        if moved.refusal_text(error) is not None:
            raise
        raise TransportUnavailable(
            f"the database {subscriber.database!r} of {subscriber.label!r} did not accept the "
            f"messages: {error}"
        ) from error
    _pass_fault_points()


def _received_row(
    subscriber: Context, message: OutgoingMessage, texts: tuple[str, str]
) -> statements.ReceivedRow:
    payload, headers = texts
    return statements.ReceivedRow(
        message_id=message.id,
        type=message.type,
        schema_version=message.version,
        key=message.key,
        payload=payload,
        headers=headers,
        correlation_id=message.correlation_id,
        causation_id=message.causation_id,
        hops=message.hops,
        key_hash=message.key_hash,
        recorded_at=time_parameter(connections[subscriber.database], message.time),
    )


def _pass_fault_points() -> None:
    # The commit is also the acknowledgement, so no crash is possible between the two points.
    faults.point("receive.after_commit")
    faults.point("receive.after_ack")
