"""One delivery, inside its transaction: read the event, call the consumer, store translations."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connections
from django.utils import timezone

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Consumer, ConsumerFunction, Context, context_of
from outbox_inbox.events import DomainEvent, IntegrationEvent, codec
from outbox_inbox.events.envelope import Envelope, Handling, current
from outbox_inbox.exceptions import HandlerError
from outbox_inbox.outbox import recording
from outbox_inbox.outbox.rows import Terms, prepare_rows
from outbox_inbox.queues import announcements, intake, statements, wakeup
from outbox_inbox.queues.attempts import name_function
from outbox_inbox.queues.envelopes import envelope_of
from outbox_inbox.queues.run import Run, ends_worker
from outbox_inbox.queues.statements import ReadyRow, ReceivedRow
from outbox_inbox.queues.statements.dialects import time_parameter
from outbox_inbox.queues.watch import call_watched

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
        HandlerError: one of its functions left the transaction unusable without an exception.
        Exception: whatever the consumer raises.
    """
    connection = connections[context.database]
    envelopes = [envelope_of(connection, row, row.source, row.recorded_at) for row in rows]
    calls = [
        _Call(
            function,
            [_decode_event(consumer, function, rows[place]) for place in places],
            [envelopes[place] for place in places],
            max([rows[place].hops for place in places]),
        )
        for function, places in _divide_rows(consumer, rows)
    ]
    faults.point("dispatch.before_handler")
    hooks = len(connection.run_on_commit)
    token = current.set(None)
    try:
        made = _make_calls(context, consumer, calls)
        if consumer.kind in ("outbound", "inbound"):
            for call, result in zip(calls, made, strict=True):
                _collect_translations(context, consumer, call.function, result, translations)
    finally:
        current.reset(token)
    _guard_hooks(context, rows[-1], hooks)
    faults.point("dispatch.after_handler")


def _guard_hooks(context: Context, row: ReadyRow, first: int) -> None:
    """Report an on_commit hook that raises with its own message, and let the others run.

    Django runs no further hooks after one that raised, and a transaction may have many messages.
    """
    hooks: list[Any] = connections[context.database].run_on_commit

    def guarded(hook: Callable[[], Any]) -> None:
        try:
            hook()
        except Exception as error:
            if ends_worker(error):
                raise
            announcements.hook_failed(context, row, error)

    for place in range(first, len(hooks)):
        savepoints, hook, robust = hooks[place]
        if not robust:
            hooks[place] = (savepoints, partial(guarded, hook), robust)


class _Call(NamedTuple):
    """One call of a function, with its events and their envelopes; several only of a list."""

    function: ConsumerFunction
    events: list[Any]
    envelopes: list[Envelope]
    hops: int


def _divide_rows(
    consumer: Consumer, rows: Sequence[ReadyRow]
) -> Iterator[tuple[ConsumerFunction, Sequence[int]]]:
    """Yield the calls of a consumer's functions, each with the places of its messages in the rows.

    Of a list each function gets as much at once as order allows: no function gets a message before
    all functions of the earlier messages of its key have had those. Rounds keep that, in each of
    which the functions are called once, in their order: a message goes into the round of the one
    before it, unless one of its functions would then be called too early.
    """
    if consumer.mode != "list":
        yield from ((function, (0,)) for function in consumer.functions_of(rows[0].type))
        return
    rounds: list[dict[int, list[int]]] = [defaultdict(list)]
    latest: dict[str, tuple[int, int]] = {}  # by key: a round, and the last function called in it
    for place, row in enumerate(rows):
        numbers = [n for n, each in enumerate(consumer.functions) if row.type in each.events]
        round_, last = (0, 0) if row.key is None else latest.get(row.key, (0, 0))
        round_ += numbers[0] < last
        if row.key is not None:
            latest[row.key] = (round_, numbers[-1])
        if round_ == len(rounds):
            rounds.append(defaultdict(list))
        for number in numbers:
            rounds[round_][number].append(place)
    for places in rounds:
        yield from ((consumer.functions[number], places[number]) for number in sorted(places))


def _decode_event(consumer: Consumer, function: ConsumerFunction, row: ReadyRow) -> Any:
    cls = function.events[row.type]
    return codec.decode(
        cls,
        row.payload,
        version=row.schema_version,
        upcasters=consumer.upcasters_of(cls),
        own=issubclass(cls, DomainEvent),  # those never leave their context, nor come from outside
    )


def _make_calls(context: Context, consumer: Consumer, calls: Sequence[_Call]) -> list[Any]:
    connection, made = connections[context.database], []
    for call in calls:
        # `record()` takes the cause from here; of a list it is the last message, with the most hops.
        current.set(Handling(call.envelopes[-1], call.hops))
        make_call = partial(_make_call, context, consumer, call)
        try:
            made.append(call_watched(connection, call.function.name, make_call))
        except Exception as error:
            if len(consumer.functions) > 1:
                name_function(error, call.function.name)
            raise
    return made


def _make_call(context: Context, consumer: Consumer, call: _Call) -> Any:
    function, events, envelopes, _ = call
    if consumer.kind == "process":
        processes.take_step(context, consumer, events[0])
        return None
    several = consumer.mode == "list"
    given: list[Any] = [events if several else events[0]]
    if function.takes_envelope:
        given.append(envelopes if several else envelopes[0])
    return function.call(*given)


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
