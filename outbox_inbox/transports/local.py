"""``local://``: from the outbox directly into the inboxes of this project's other contexts.

On one database this is one transaction, so a message arrives exactly once. With another database
the inbox is committed first and the outbox is marked afterwards (rules O1 and O4); a crash in
between repeats the messages, and the inbox drops the duplicates.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, connections, transaction

from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.queues import intake, statements
from outbox_inbox.queues.blame import close_refusing
from outbox_inbox.queues.interests import confirm_interests
from outbox_inbox.queues.run import AttemptFailed
from outbox_inbox.queues.statements import moved
from outbox_inbox.queues.statements.dialects import time_parameter
from outbox_inbox.queues.statements.dialects.refusals import blames_values

from .base import OutgoingMessage, Published, Transport
from .quarantine import Place, quarantine_outgoing


class LocalTransport(Transport):
    """Inserts messages into the inboxes of all contexts of the project that subscribe to them."""

    writes_inboxes = True
    thread_safe = True
    needs_text = False

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; an insert into the same database joins the caller's transaction.

        Raises:
            TransportUnavailable: another database cannot be reached, or takes no messages (read-only,
                full, without tables or rights); or a subscriber was moved to another database than
                this process is configured with.
            AttemptFailed: another database does not take the values of one of the messages.
        """
        for label, database, wanted in _subscribers(source, messages):
            try:
                if database == source.database:
                    _move_rows(source, label, wanted)
                else:
                    _copy_rows(source, label, database, wanted)
            except DatabaseError as error:
                said = moved.refusal_text(error)
                if said is None:
                    raise
                # A deployment ends it, not a repair, so the back-off stays short.
                raise TransportUnavailable(said, longest=timedelta(seconds=5)) from error
        return Published(sent=[message.row for message in messages])


def _subscribers(
    source: Context, messages: Sequence[OutgoingMessage]
) -> Iterator[tuple[str, str, list[OutgoingMessage]]]:
    """Yield label, database and messages of each context that subscribes to some of them.

    They are those that the database knows, since newer code may have more than this process.
    """
    own = {context.label: context.database for context in contexts()}
    types = sorted({message.type for message in messages})
    found = statements.select_subscribers(connections[source.database], types)
    wanted: dict[str, set[str]] = {}
    databases: dict[str, str] = {}
    for label, alias, type_name in found:
        wanted.setdefault(label, set()).add(type_name)
        databases[label] = own.get(label) or alias or source.database
    for label, database in databases.items():
        if database not in connections:
            raise TransportUnavailable(
                f"the inbox of {label!r} is in the database {database!r}, which this process does "
                "not have: a process of the new code will send the messages",
                longest=timedelta(seconds=5),
            )
        yield label, database, [each for each in messages if each.type in wanted[label]]


def _move_rows(source: Context, subscriber: str, messages: Sequence[OutgoingMessage]) -> None:
    faults.point("receive.after_read")
    rows, stored = [message.row for message in messages], messages[0].stored
    into = (subscriber, source.label)
    conflicts = intake.move_messages(connections[source.database], rows, *into, stored=stored)
    if conflicts:
        quarantine_outgoing(source, Place(subscriber, source.database), messages, conflicts)
    faults.point("receive.after_insert")
    transaction.on_commit(_pass_fault_points, using=source.database)


def _copy_rows(
    source: Context, subscriber: str, database: str, messages: Sequence[OutgoingMessage]
) -> None:
    connection, stored = connections[source.database], messages[0].stored
    texts = statements.select_texts(connection, [each.row for each in messages], stored=stored)
    faults.point("receive.after_read")
    rows = [_received_row(database, message, texts[message.row]) for message in messages]
    try:
        confirm_interests(database)
        _require_subscription(subscriber, database, messages)
        with transaction.atomic(using=database):
            into = (subscriber, source.label, database)
            if intake.insert_messages(rows, *into) < len(rows):
                found = intake.conflicting_rows(rows, *into)
                conflicts = {messages[index].row: error for index, error in found.items()}
                quarantine_outgoing(source, Place(subscriber, database), messages, conflicts)
            faults.point("receive.after_insert")
    except (Error, ImproperlyConfigured, OSError) as error:
        if moved.refusal_text(error) is not None:
            raise
        raise _copy_failure(subscriber, database, error) from error
    _pass_fault_points()


def _copy_failure(subscriber: str, database: str, error: Exception) -> Exception:
    """Return what to raise for an error of another database; the connection may be closed by it."""
    connection = connections[database]
    # Only values can be the fault of one message. "Read-only" or "no such table" is whatever class the
    # driver chose, and the next message would meet it as well.
    if blames_values(connection, error):
        return AttemptFailed(error)
    if isinstance(error, Error):
        close_refusing(connection, error)
    return TransportUnavailable(
        f"the database {database!r} of {subscriber!r} did not accept the messages: {error}"
    )


def _require_subscription(
    subscriber: str, database: str, messages: Sequence[OutgoingMessage]
) -> None:
    """Refuse to copy what neither this code nor the other database knows a subscription of.

    Newer code has stored it in the source's database, and may not have come to the other one yet. Its
    consumers are unknown there, so the messages would be in the inbox without a delivery.
    """
    own = {context.label: context.subscribed for context in contexts()}.get(subscriber, ())
    unknown = {message.type for message in messages}.difference(own)
    if unknown:
        unknown -= statements.subscribed_versions(connections[database], subscriber).keys()
    if unknown:
        raise TransportUnavailable(
            f"the database {database!r} does not know yet that {subscriber!r} subscribes to "
            f"{', '.join(sorted(unknown))}: run manage.py migrate --database {database} with the newer "
            "code, or start a worker of it",
            longest=timedelta(seconds=5),
        )


def _received_row(
    database: str, message: OutgoingMessage, texts: tuple[str, str]
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
        recorded_at=time_parameter(connections[database], message.time),
    )


def _pass_fault_points() -> None:
    # The commit is also the acknowledgement, so no crash is possible between the two points.
    faults.point("receive.after_commit")
    faults.point("receive.after_ack")
