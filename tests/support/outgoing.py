"""Messages as the relay hands them to a transport."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from outbox_inbox.transports import OutgoingMessage


def outgoing(number: int, **changed: Any) -> OutgoingMessage:
    """Return a numbered message of the shop."""
    told: dict[str, Any] = {
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
    return OutgoingMessage(**told | changed)
