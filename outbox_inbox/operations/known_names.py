"""Why a selection has found nothing: a name that is not known, or an id or a key that is not stored.

Asked only after nothing was found: some of these look-ups read a whole table.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import OutboxInboxError, UnknownName
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    Interest,
    InterestKind,
    OutboxMessage,
    QuarantinedMessage,
    Queue,
)
from outbox_inbox.signals.escaping import quoted

from .quarantine import QuarantineSelection
from .selection import Selection

_Rows = QuerySet[Any]


class NothingStored(OutboxInboxError):
    """No message that is stored has the id or the key that was selected."""


def explain_nothing(selection: Selection) -> None:
    """Raise an error if a selection cannot find anything; return if its messages are only solved.

    Raises:
        UnknownName: neither the code nor a stored row has the type or the consumer.
        NothingStored: no message has the id or the key.
    """
    context = get_context(selection.context)
    if selection.consumer is not None:
        deliveries = _of(context, Delivery).filter(consumer=selection.consumer)
        known = [*context.consumers, *_interests(context, "name")]
        _require_name("consumer", selection.consumer, known, [deliveries], context)
    if selection.type is not None:
        stored = [_of(context, each).filter(type=selection.type) for each in _messages(selection)]
        known = [*_types(context), *_interests(context, "type")]
        _require_name("type", selection.type, known, stored, context)
    where = f"in the {' or '.join(selection.queues)} of {context.label!r}"
    for name, value in (("message_id", selection.id), ("key", selection.key)):
        stored = [_of(context, each).filter(**{name: value}) for each in _messages(selection)]
        if value is not None and not any(each.exists() for each in stored):
            said = name.removeprefix("message_")
            raise NothingStored(f"no message {where} has the {said} {quoted(str(value))}")


def explain_no_quarantined(selection: QuarantineSelection) -> None:
    """Do as `explain_nothing` with a selection of quarantined messages, and the same errors."""
    context = get_context(selection.context)
    rows = _of(context, QuarantinedMessage)
    if selection.source is not None:
        label = selection.source.removeprefix("/")
        stored = rows.filter(source__in=[label, f"/{label}"])
        _require_name("source", label, context.sources, [stored], context)
    if selection.type is not None:
        name = selection.type
        stored = rows.filter(type=name) | rows.filter(type__startswith=f"{name}.v")
        base, _, version = name.rpartition(".v")
        name = base if version.isdecimal() else name
        _require_name("type", name, context.subscribed, [stored], context)
    if selection.id is not None and not rows.filter(message_id=selection.id).exists():
        where = f"in the quarantine of {context.label!r}"
        raise NothingStored(f"no message {where} has the id {quoted(selection.id)}")


def _require_name(
    what: str, name: str, known: Iterable[str], stored: Iterable[_Rows], context: Context
) -> None:
    declared = set(known)
    if name not in declared and not any(each.exists() for each in stored):
        raise UnknownName(
            f"{context.label!r} has no {what} {quoted(name)}{suggestion(name, declared)}"
        )


def _of(context: Context, model: type[Any]) -> _Rows:
    rows: _Rows = model.objects.using(context.database).filter(context=context.label)
    return rows


def _messages(selection: Selection) -> Iterator[type[Any]]:
    for queue in selection.queues:
        yield OutboxMessage if queue == Queue.OUTBOX else InboxMessage


def _types(context: Context) -> Iterator[str]:
    yield from context.events
    for consumer in context.consumers.values():
        yield from consumer.events  # those of the time-outs of a process as well


def _interests(context: Context, column: str) -> Iterator[str]:
    rows = _of(context, Interest).filter(kind=InterestKind.CONSUMER)
    yield from rows.order_by().values_list(column, flat=True).distinct()
