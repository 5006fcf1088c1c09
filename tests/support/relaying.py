"""What the tests of the relay record, refuse and read: numbered contracts of the shop, on the wire."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from outbox_inbox import Envelope
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxMessage, Partition, Queue
from outbox_inbox.transports import OutgoingMessage, Published
from tests.shop.contracts import Sold

from . import wire
from .movers import put, steps


class Log:
    """What the wire has confirmed, as (key, number)."""

    def __eq__(self, other: object) -> bool:
        return self.all() == other

    __hash__ = None  # type: ignore[assignment]

    def all(self) -> list[tuple[str | None, int]]:
        """Return everything."""
        return [(message.key, number_of(message)) for message in wire.confirmed]

    def of(self, key: str) -> list[int]:
        """Return the numbers of one key."""
        return [number for sent, number in self.all() if sent == key]


def number_of(message: OutgoingMessage) -> int:
    """Return the number of the step in a message of the wire."""
    return int(message.data.split('"number":')[1].split(",")[0])


def sold(*numbers: int, order: str = "a") -> list[Envelope]:
    """Record contracts."""
    return put(*steps(Sold, numbers, order))


def not_number(
    *numbers: int, key: str | None = "a"
) -> Callable[[Sequence[OutgoingMessage]], Published]:
    """Return a part for ``publish`` that refuses these messages of one key."""
    return wire.refusing(lambda message: message.key == key and number_of(message) in numbers)


def out_of_reach(*_: Any) -> NoReturn:
    """Be a transport that cannot be reached."""
    raise TransportUnavailable("no server answers")


def partition() -> Partition:
    """Return the one partition of the shop's outbox."""
    return Partition.objects.get(context="shop", queue=Queue.OUTBOX)


def row(number: int) -> OutboxMessage:
    """Return a message of the outbox by the number of its step."""
    return OutboxMessage.objects.get(payload__contains=f'"number":{number},')
