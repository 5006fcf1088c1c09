"""Counts what has passed each hop, from a use case in one context to the models of the other.

Hops of a context that is deployed elsewhere are left out: only its own process can count them.
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
from outbox_inbox.queues.layouts import stored_layout

from .deployment import ORDERING, SHIPPING, is_deployed


@dataclass(frozen=True)
class Hop:
    """A place that every order, or an event about it, passes."""

    context: str
    name: str


def count_hops() -> Mapping[Hop, int]:
    """Return the count at each hop of this process, in the order in which an order passes them."""
    return {hop: count() for hop, count in _hops() if is_deployed(hop.context)}


def _count_placed() -> int:
    rows = StoredEvent.objects.using(get_context(ORDERING).database)
    return rows.filter(context=ORDERING, type=f"{ORDERING}.Placed").count()


def _own_events_name(label: str) -> str:
    """Return the name of the hop between a context's outbox, or stream, and its own inbox.

    Where the stream is the source, what is scheduled for later still passes the outbox.
    """
    source = stored_layout(get_context(label)).source if is_deployed(label) else "outbox"
    return f"own events, {source} to own inbox"


def _count_sent(label: str, kind: Kind) -> int:
    context = get_context(label)
    in_outbox = OutboxMessage.objects.using(context.database).filter(context=label, kind=kind)
    stored = StoredEvent.objects.using(context.database).filter(context=label, kind=kind)
    # Where the stream is the source, the outbox only has what could not be sent at once.
    direct = stored.filter(in_outbox=False).exclude(message_id__in=in_outbox.values("message_id"))
    return (
        in_outbox.filter(state=OutboxState.SENT).count()
        + direct.count()
        - unsent(context, kind).events
    )


def _count_received(label: str, source: str) -> int:
    rows = InboxMessage.objects.using(get_context(label).database)
    return rows.filter(context=label, source=source).count()


def _count_done(label: str) -> int:
    rows = Delivery.objects.using(get_context(label).database)
    return rows.filter(context=label, state=DeliveryState.DONE).count()


def _count_shipments(*status: str) -> int:
    from context_b.models import Shipment

    return Shipment.objects.filter(status__in=status or Shipment.Status.values).count()


def _count_orders(status: str) -> int:
    from context_a.models import OrderSummary

    return OrderSummary.objects.filter(status=status).count()


def _hops() -> Iterator[tuple[Hop, Callable[[], int]]]:
    """Yield all hops, each with the function that counts it."""
    yield Hop(ORDERING, "orders placed"), _count_placed
    yield Hop(ORDERING, _own_events_name(ORDERING)), lambda: _count_sent(ORDERING, Kind.DOMAIN)
    yield Hop(ORDERING, "contracts published"), lambda: _count_sent(ORDERING, Kind.INTEGRATION)
    yield Hop(SHIPPING, "contracts received"), lambda: _count_received(SHIPPING, ORDERING)
    yield Hop(SHIPPING, "deliveries done"), lambda: _count_done(SHIPPING)
    yield Hop(SHIPPING, "shipments booked"), _count_shipments
    yield Hop(SHIPPING, "shipments called off"), lambda: _count_shipments("called off")
    yield Hop(SHIPPING, "shipments dispatched"), lambda: _count_shipments("dispatched")
    yield Hop(SHIPPING, _own_events_name(SHIPPING)), lambda: _count_sent(SHIPPING, Kind.DOMAIN)
    yield Hop(SHIPPING, "contracts published"), lambda: _count_sent(SHIPPING, Kind.INTEGRATION)
    yield Hop(ORDERING, "contracts received"), lambda: _count_received(ORDERING, SHIPPING)
    yield Hop(ORDERING, "deliveries done"), lambda: _count_done(ORDERING)
    yield Hop(ORDERING, "orders cancelled"), lambda: _count_orders("cancelled")
    yield Hop(ORDERING, "orders shipped"), lambda: _count_orders("shipped")
    yield Hop(ORDERING, "orders open"), lambda: _count_orders("open")
