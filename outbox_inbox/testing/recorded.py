"""The events that a test recorded, decoded."""

from typing import Any, TypeVar, cast, overload

from outbox_inbox.contexts import Context, context_of, contexts, get_context
from outbox_inbox.events import DomainEvent, IntegrationEvent, codec
from outbox_inbox.models import OutboxMessage, StoredEvent

EventT = TypeVar("EventT", bound=DomainEvent | IntegrationEvent)


@overload
def recorded(event: type[EventT], *, context: str | None = None) -> list[EventT]: ...
@overload
def recorded(event: None = None, *, context: str | None = None) -> list[Any]: ...


def recorded(event: type[EventT] | None = None, *, context: str | None = None) -> list[Any]:
    """Return the events that were recorded, sent or not, in the order of recording.

    They are read from the outbox; where the stream is the source, from the stream, followed by the
    scheduled ones, which are in the outbox.

    Arguments:
        event: only events of this class; default: all.
        context: the label of the only context to read; default: the context of the class, or all
            contexts, by label.

    Raises:
        NotAContext: the label is not a context, or the class does not belong to one.
        LookupError: a stored event's class is not imported.
    """
    if context is not None:
        owners: tuple[Context, ...] = (get_context(context),)
    else:
        owners = contexts() if event is None else (context_of(cast(type[DomainEvent], event)),)
    return [found for owner in owners for found in _events(owner, event)]


def _events(context: Context, event: type[Any] | None) -> list[Any]:
    which: dict[str, Any] = {"context": context.label}
    if event is not None:
        which["type"] = context.type_name(event)
    streamed = StoredEvent.objects.using(context.database).filter(**which, in_outbox=False)
    waiting = OutboxMessage.objects.using(context.database).filter(**which)
    rows: list[Any] = list(streamed.order_by("pk"))
    ids = {row.message_id for row in rows}
    rows += [row for row in waiting.order_by("pk") if row.message_id not in ids]
    return [_decode(context, row, event) for row in rows]


def _decode(context: Context, row: OutboxMessage | StoredEvent, event: type[Any] | None) -> Any:
    cls = event or context.event_class(row.type)
    if cls is None:
        raise LookupError(f"no class of the type {row.type!r} is imported in {context.label!r}")
    return codec.decode(
        cls, row.payload, version=row.schema_version, upcasters=context.upcasters_of(cls)
    )
