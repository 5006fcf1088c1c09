"""How one delivery is handled: read the event, call the consumer, store what a translator made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Consumer, Context, context_of
from outbox_inbox.events import DomainEvent, IntegrationEvent, codec
from outbox_inbox.events.envelope import Envelope, Handling, current
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.outbox import recording
from outbox_inbox.outbox.rows import Terms, prepare_rows
from outbox_inbox.queues import intake, statements, wakeup
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.statements.dialects import (
    as_datetime,
    as_uuid,
    as_uuid_or_none,
    dialect_class,
    gave_way,
    time_parameter,
)

from . import processes


@dataclass(slots=True)
class Translations:
    """What translators made in one transaction, kept to be stored by few statements."""

    outbound: list[statements.EventRow] = field(default_factory=list)
    inbound: list[statements.EventRow] = field(default_factory=list)

    def store(self, context: Context) -> None:
        """Insert everything, in the caller's transaction, and begin anew."""
        connection = connections[context.database]
        if self.outbound:
            recording.store_rows(context, self.outbound, fresh=True)
            if settings().wake_up:
                wakeup.nudge(context)
        if self.inbound:
            now = time_parameter(connection, timezone.now())
            rows = [_received(row, now) for row in self.inbound]
            intake.insert_messages(rows, context, context.label)
        self.outbound, self.inbound = [], []


def deliver(
    context: Context, consumer: Consumer, rows: Sequence[ReadyRow], translations: Translations
) -> None:
    """Call one consumer with the events of one delivery, or of several for a list handler.

    Raises:
        UnreadableMessage, NewerVersion: a payload cannot be read as the consumer's event.
        HandlerError: the consumer left its transaction unusable without an exception.
        Exception: whatever the consumer raises.
    """
    connection = connections[context.database]
    events = [read(consumer, row) for row in rows]
    envelopes = [envelope(connection, row) for row in rows]
    faults.point("dispatch.before_handler")
    # `record()` learns the cause from here; of a list it is the last message, with the most hops.
    token = current.set(Handling(envelopes[-1], max([row.hops for row in rows])))
    try:
        if dialect_class(connection).deadlocks_roll_back:
            made = _call_watched(context, consumer, events, envelopes)
        else:
            made = _call(context, consumer, events, envelopes)
        if consumer.kind in ("outbound", "inbound"):
            _translate(context, consumer, made, translations, connection)
    finally:
        current.reset(token)
    faults.point("dispatch.after_handler")
    _refuse_broken(connection, consumer)


def read(consumer: Consumer, row: ReadyRow) -> Any:
    """Return the event of a delivery, brought to its newest version."""
    cls = consumer.events[row.type]
    return codec.decode(
        cls,
        row.payload,
        version=row.schema_version,
        upcasters=consumer.upcasters_of(cls),
        own=issubclass(cls, DomainEvent),  # those never leave their context, nor come from outside
    )


def envelope(connection: BaseDatabaseWrapper, row: ReadyRow) -> Envelope:
    """Return the envelope of a delivery's message."""
    return Envelope(
        id=as_uuid(row.message_id),
        type=row.type,
        version=row.schema_version,
        source=row.source,
        key=row.key,
        time=as_datetime(connection, row.recorded_at),
        correlation_id=as_uuid(row.correlation_id),
        causation_id=as_uuid_or_none(row.causation_id),
        headers=codec.decode_headers(row.headers),
        data=row.payload,
    )


def _call(
    context: Context, consumer: Consumer, events: Sequence[Any], envelopes: Sequence[Envelope]
) -> Any:
    if consumer.kind == "process":
        return processes.step(context, consumer, events[0])
    several = consumer.mode == "list"
    event = list(events) if several else events[0]
    if consumer.takes_envelope:
        return consumer.function(event, list(envelopes) if several else envelopes[0])
    return consumer.function(event)


def _call_watched(
    context: Context,
    consumer: Consumer,
    events: Sequence[Any],
    envelopes: Sequence[Envelope],
) -> Any:
    """Call a consumer, and raise the deadlock that it has swallowed.

    MySQL has rolled back everything by then, the mark that the delivery is done included, and
    would commit what the consumer did afterwards.
    """
    connection = connections[context.database]
    swallowed: list[OperationalError] = []

    def watch(execute: Any, sql: Any, parameters: Any, many: Any, context: Any) -> Any:
        try:
            return execute(sql, parameters, many, context)
        except OperationalError as error:
            if gave_way(connection, error, waited=False):
                swallowed.append(error)
            raise

    made, error = None, None
    with connection.execute_wrapper(watch):
        try:
            made = _call(context, consumer, events, envelopes)
        except Exception as raised:  # noqa: BLE001  whatever came of it
            error = raised
    if swallowed:
        raise swallowed[0]
    if error is not None:
        raise error
    return made


def _translate(
    context: Context,
    consumer: Consumer,
    made: Any,
    translations: Translations,
    connection: BaseDatabaseWrapper,
) -> None:
    if made is None:
        return
    events = made if isinstance(made, list | tuple) else (made,)
    wanted = IntegrationEvent if consumer.kind == "outbound" else DomainEvent
    for event in events:
        if not isinstance(event, wanted) or context_of(event) is not context:
            raise HandlerError(
                f"the {consumer.kind} translator {consumer.name} returned {type(event).__name__}; "
                f"expected is a {wanted.__name__} of the context {context.label!r}, "
                "a list of them, or None"
            )
    rows = prepare_rows(context, events, Terms(), current.get(), connection)
    target = translations.outbound if consumer.kind == "outbound" else translations.inbound
    target += rows


def _refuse_broken(connection: BaseDatabaseWrapper, consumer: Consumer) -> None:
    """Find out a transaction that will not commit, although nothing was raised.

    `set_rollback(True)` ends an atomic block silently, and after a swallowed DatabaseError
    PostgreSQL answers COMMIT with a ROLLBACK that is no error either.
    """
    if connection.needs_rollback or _aborted(connection):
        raise HandlerError(
            f"{consumer.name} left its transaction marked for rollback: it called set_rollback(), "
            "or caught a database error without a savepoint (transaction.atomic()) around it"
        )


def _aborted(connection: BaseDatabaseWrapper) -> bool:
    driver: Any = connection.connection
    if driver is None:
        return True
    return dialect_class(connection).is_aborted(driver)


def _received(row: statements.EventRow, now: Any) -> statements.ReceivedRow:
    return statements.ReceivedRow(
        message_id=row.message_id,
        type=row.type,
        schema_version=row.schema_version,
        key=row.key,
        payload=row.payload,
        headers=row.headers,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        hops=row.hops,
        key_hash=row.key_hash,
        recorded_at=now,
    )


class Commit:
    """Tells an error before the commit from one raised by a hook after it.

    Enter it within the transaction, before anything else registers an on_commit hook.
    """

    def __init__(self, using: str) -> None:
        self.done = False
        transaction.on_commit(self._note, using=using)

    def _note(self) -> None:
        self.done = True
