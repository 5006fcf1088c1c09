"""One delivery, inside its transaction: read the event, call the consumer, store translations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Consumer, ConsumerFunction, Context, context_of
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent, codec
from outbox_inbox.events.envelope import Envelope, Handling, current
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.outbox import recording
from outbox_inbox.outbox.rows import Terms, prepare_rows
from outbox_inbox.queues import intake, statements, wakeup
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow, ReceivedRow
from outbox_inbox.queues.statements.dialects import dialect_class, gave_way, time_parameter

from . import processes

_received_columns = attrgetter(*[name for name in ReceivedRow._fields if name != "recorded_at"])


@dataclass(slots=True)
class Translations:
    """What translators made in one transaction, collected so that few statements store it."""

    outbound: list[statements.EventRow] = field(default_factory=list)
    inbound: list[statements.EventRow] = field(default_factory=list)

    def store(self, run: Run) -> None:
        """Insert everything in the open transaction.

        Raises:
            GaveWay: the database rolled back or waited too long, so that another can go on.
        """
        if not (self.outbound or self.inbound):
            return
        context = run.context
        with run.giving_way():
            if self.outbound:
                recording.store_rows(context, self.outbound, fresh=True)
                if settings().wake_up:
                    wakeup.nudge(context)
            if self.inbound:
                now = time_parameter(run.connection, timezone.now())
                rows = [ReceivedRow._make((*_received_columns(row), now)) for row in self.inbound]
                intake.insert_messages(rows, context.label, context.label, context.database)


def deliver_message(run: Run, row: ReadyRow) -> None:
    """Call the consumer of a delivery, and store what a translator made."""
    translations = Translations()
    deliver_row(run.context, row, translations)
    translations.store(run)


def deliver_row(context: Context, row: ReadyRow, translations: Translations) -> None:
    """Call the consumer of a delivery; what a translator makes is added to ``translations``."""
    call_consumer(context, context.consumers[row.consumer], [row], translations)


def call_consumer(
    context: Context, consumer: Consumer, rows: Sequence[ReadyRow], translations: Translations
) -> None:
    """Call one consumer with the event of one delivery, or those of several as a list.

    Raises:
        UnreadableMessage, NewerVersion: a payload cannot be read as the consumer's event.
        HandlerError: the consumer left its transaction unusable without an exception.
        Exception: whatever the consumer raises.
    """
    connection = connections[context.database]
    envelopes = [envelope_of(connection, row, row.source, row.recorded_at) for row in rows]
    calls = [
        _Call(each, _decoded(consumer, each, taken), envelopes[begin : begin + len(taken)])
        for begin, taken, functions in _in_a_row(consumer, rows)
        for each in functions
    ]
    faults.point("dispatch.before_handler")
    # `record()` takes the cause from here; of a list it is the last message, with the most hops.
    token = current.set(Handling(envelopes[-1], max([row.hops for row in rows])))
    try:
        make_calls = partial(_make_calls, context, consumer, calls)
        watched = dialect_class(connection).deadlocks_roll_back
        made = _call_watched(connection, make_calls) if watched else make_calls()
        if consumer.kind in ("outbound", "inbound"):
            for call, result in zip(calls, made, strict=True):
                _collect_translations(context, consumer, call.function, result, translations)
    finally:
        current.reset(token)
    faults.point("dispatch.after_handler")
    _refuse_broken_transaction(connection, consumer)


class _Call(NamedTuple):
    """One call of a function, with its events and their envelopes; several only of a list."""

    function: ConsumerFunction
    events: list[Any]
    envelopes: list[Envelope]


def _in_a_row(
    consumer: Consumer, rows: Sequence[ReadyRow]
) -> Iterator[tuple[int, Sequence[ReadyRow], tuple[ConsumerFunction, ...]]]:
    """Yield index, rows and functions of messages in a row that the same functions take.

    A function never gets a message before another has had an earlier one of the same list.
    """
    begin = 0
    for functions, found in groupby(rows, lambda row: consumer.functions_of(row.type)):
        taken = list(found)
        yield begin, taken, functions
        begin += len(taken)


def _decoded(consumer: Consumer, function: ConsumerFunction, rows: Sequence[ReadyRow]) -> list[Any]:
    return [_decode_event(consumer, function.events[row.type], row) for row in rows]


def _decode_event(consumer: Consumer, cls: EventClass, row: ReadyRow) -> Any:
    return codec.decode(
        cls,
        row.payload,
        version=row.schema_version,
        upcasters=consumer.upcasters_of(cls),
        own=issubclass(cls, DomainEvent),  # those never leave their context, nor come from outside
    )


def _make_calls(context: Context, consumer: Consumer, calls: Sequence[_Call]) -> list[Any]:
    if consumer.kind == "process":
        processes.take_step(context, consumer, calls[0].events[0])
        return []
    several = consumer.mode == "list"
    made = []
    for function, events, envelopes in calls:
        given: list[Any] = [events if several else events[0]]
        if function.takes_envelope:
            given.append(envelopes if several else envelopes[0])
        made.append(function.call(*given))
    return made


def _call_watched(
    connection: BaseDatabaseWrapper, make_calls: Callable[[], list[Any]]
) -> list[Any]:
    """Call a consumer on MySQL, and raise a deadlock that the consumer has caught itself.

    After a deadlock MySQL has rolled back everything, the claim of the delivery included, and
    would commit what the consumer does afterwards: a retry would then do it twice.
    """
    swallowed: list[OperationalError] = []

    def watch(execute: Any, sql: Any, parameters: Any, many: Any, context: Any) -> Any:
        try:
            return execute(sql, parameters, many, context)
        except OperationalError as error:
            if gave_way(connection, error, waited=False):
                swallowed.append(error)
            raise

    made: list[Any] = []
    error: Exception | None = None
    with connection.execute_wrapper(watch):
        try:
            made = make_calls()
        except Exception as raised:  # noqa: BLE001  raised below, unless a deadlock came first
            error = raised
    if swallowed:
        raise swallowed[0]
    if error is not None:
        raise error
    return made


def _collect_translations(
    context: Context,
    consumer: Consumer,
    function: ConsumerFunction,
    made: Any,
    translations: Translations,
) -> None:
    if made is None:
        return
    events = made if isinstance(made, list | tuple) else (made,)
    wanted = IntegrationEvent if consumer.kind == "outbound" else DomainEvent
    for event in events:
        if not isinstance(event, wanted) or context_of(event) is not context:
            raise HandlerError(
                f"the {consumer.kind} translator {function.name} returned {type(event).__name__}; "
                f"expected {wanted.__name__} of the context {context.label!r}: one, a list, or None"
            )
    target = translations.outbound if consumer.kind == "outbound" else translations.inbound
    connection = connections[context.database]
    target += prepare_rows(context, events, Terms(), current.get(), connection)


def _refuse_broken_transaction(connection: BaseDatabaseWrapper, consumer: Consumer) -> None:
    """Fail a consumer whose transaction will not commit, although it raised nothing.

    `set_rollback(True)` ends an atomic block without an exception, and after a swallowed
    DatabaseError PostgreSQL answers COMMIT with a ROLLBACK, without an error: the delivery would
    count as done, with none of its effects.
    """
    driver: Any = connection.connection
    lost = driver is None or dialect_class(connection).is_aborted(driver)
    if connection.needs_rollback or lost:
        raise HandlerError(
            f"{consumer.name} left its transaction marked for rollback: it called set_rollback(), "
            "or caught a database error without a savepoint (transaction.atomic()) around it"
        )
