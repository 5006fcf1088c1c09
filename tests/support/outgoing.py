"""Messages as the relay hands them to a transport, and what has arrived of them."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from outbox_inbox.contexts import Context, get_context
from outbox_inbox.models import InboxMessage
from outbox_inbox.transports import OutgoingMessage, Published, Transport, transport


def outgoing(number: int, **changed: Any) -> OutgoingMessage:
    """Return a numbered message of the shop."""
    given: dict[str, Any] = {
        "row": number,
        "id": UUID(int=number),
        "type": "shop.sold",
        "version": 1,
        "key": "a",
        "key_hash": 0,
        "partition": 0,
        "time": datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
        "correlation_id": UUID(int=77),
        "causation_id": None,
        "hops": 0,
        "headers": "{}",
        "data": f'{{"number":{number},"order":"a"}}',
    }
    return OutgoingMessage(**given | changed)


def publish(*messages: OutgoingMessage) -> Published:
    """Publish messages of the shop."""
    return transport("default").publish(get_context("shop"), messages)


def publish_numbers(first: int, last: int) -> Published:
    """Publish numbered messages of the shop."""
    return publish(*[outgoing(number) for number in range(first, last + 1)])


def numbers() -> list[int]:
    """Return the numbers of the steps in the depot's inbox, in order."""
    rows = InboxMessage.objects.filter(context="depot", type="shop.sold").order_by("id")
    return [int(each[10 : each.index(",")]) for each in rows.values_list("payload", flat=True)]


def read(bus: Transport, limit: int = 100, context: Context | None = None) -> list[int]:
    """Receive and acknowledge as a context, the depot by default, without its inbox; return the ids."""
    context = context or get_context("depot")
    with bus.attached(context):
        found = bus.receive(context, limit)
        if found:
            bus.acknowledge(context, found)
    return [UUID(message.attributes["id"]).int for message in found]
