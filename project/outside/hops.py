"""Counts what has come through each hop, from a use case in one context to the other's models.

The hops of a context that is deployed elsewhere are seen there, and left out here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from outbox_inbox.contexts import get_context
from outbox_inbox.models import (
    Delivery,
    DeliveryState,
    InboxMessage,
    Kind,
    OutboxMessage,
    OutboxState,
    StoredEvent,
)
from outbox_inbox.outbox.stream_relay import unsent

from .deployed import ORDERING, SHIPPING, here


@dataclass(frozen=True)
class Hop:
    """A place that every order, or the news of it, comes through."""

    context: str
    name: str


def count_hops() -> Mapping[Hop, int]:
    """Return the count at each hop of this process, in the order in which an order meets them."""
    return {hop: count() for hop, count in _hops() if here(hop.context)}


def _placed() -> int:
    rows = StoredEvent.objects.using(get_context(ORDERING).database)
    return rows.filter(context=ORDERING, type=f"{ORDERING}.Placed").count()


def _own_events(label: str) -> str:
    """Return how a context calls the way that its own events take: from where it keeps them.

    Where that is the stream, what is scheduled for later still comes through the outbox.
    """
    source = get_context(label).source if here(label) else "outbox"
    return f"own events, {source} to own inbox"


def _sent(label: str, kind: Kind) -> int:
    context = get_context(label)
    in_outbox = OutboxMessage.objects.using(context.database).filter(context=label, kind=kind)
    stored = StoredEvent.objects.using(context.database).filter(context=label, kind=kind)
    # Where the stream is the source, the outbox has only what could not be sent at once.
    direct = stored.filter(in_outbox=False).exclude(message_id__in=in_outbox.values("message_id"))
    return (
        in_outbox.filter(state=OutboxState.SENT).count()
        + direct.count()
        - unsent(context, kind).events
    )


def _received(label: str, source: str) -> int:
    rows = InboxMessage.objects.using(get_context(label).database)
    return rows.filter(context=label, source=source).count()


def _done(label: str) -> int:
    rows = Delivery.objects.using(get_context(label).database)
    return rows.filter(context=label, state=DeliveryState.DONE).count()


def _shipments(*status: str) -> int:
    from context_b.models import Shipment

    return Shipment.objects.filter(status__in=status or Shipment.Status.values).count()


def _orders(status: str) -> int:
    from context_a.models import OrderSummary

    return OrderSummary.objects.filter(status=status).count()


def _hops() -> Iterator[tuple[Hop, Callable[[], int]]]:
    """Yield all hops, and what counts them."""
    yield Hop(ORDERING, "orders placed"), _placed
    yield Hop(ORDERING, _own_events(ORDERING)), lambda: _sent(ORDERING, Kind.DOMAIN)
    yield Hop(ORDERING, "contracts published"), lambda: _sent(ORDERING, Kind.INTEGRATION)
    yield Hop(SHIPPING, "contracts received"), lambda: _received(SHIPPING, ORDERING)
    yield Hop(SHIPPING, "deliveries done"), lambda: _done(SHIPPING)
    yield Hop(SHIPPING, "shipments booked"), _shipments
    yield Hop(SHIPPING, "shipments called off"), lambda: _shipments("called off")
    yield Hop(SHIPPING, "shipments dispatched"), lambda: _shipments("dispatched")
    yield Hop(SHIPPING, _own_events(SHIPPING)), lambda: _sent(SHIPPING, Kind.DOMAIN)
    yield Hop(SHIPPING, "contracts published"), lambda: _sent(SHIPPING, Kind.INTEGRATION)
    yield Hop(ORDERING, "contracts received"), lambda: _received(ORDERING, SHIPPING)
    yield Hop(ORDERING, "deliveries done"), lambda: _done(ORDERING)
    yield Hop(ORDERING, "orders cancelled"), lambda: _orders("cancelled")
    yield Hop(ORDERING, "orders shipped"), lambda: _orders("shipped")
    yield Hop(ORDERING, "orders open"), lambda: _orders("open")
