"""Counts what has come through each hop, from a use case in one context to the other's models."""

from collections.abc import Mapping
from dataclasses import dataclass

from context_a.models import OrderSummary
from context_b.models import Shipment
from outbox_inbox.contexts import context
from outbox_inbox.models import (
    Delivery,
    DeliveryState,
    InboxMessage,
    Kind,
    OutboxMessage,
    OutboxState,
    StoredEvent,
)


@dataclass(frozen=True)
class Hop:
    """A place that every order, or the news of it, comes through."""

    context: str
    name: str


def count_hops() -> Mapping[Hop, int]:
    """Return the count at each hop, in the order in which an order meets them."""
    shipped, ordered = Shipment.Status, OrderSummary.Status
    return {
        Hop("ordering", "orders placed"): _streams("ordering"),
        Hop("ordering", "own events, outbox to own inbox"): _sent("ordering", Kind.DOMAIN),
        Hop("ordering", "contracts published"): _sent("ordering", Kind.INTEGRATION),
        Hop("shipping", "contracts received"): _received("shipping", "ordering"),
        Hop("shipping", "deliveries done"): _done("shipping"),
        Hop("shipping", "shipments booked"): Shipment.objects.count(),
        Hop("shipping", "shipments called off"): _shipments(shipped.CALLED_OFF),
        Hop("shipping", "shipments dispatched"): _shipments(shipped.DISPATCHED),
        Hop("shipping", "own events, outbox to own inbox"): _sent("shipping", Kind.DOMAIN),
        Hop("shipping", "contracts published"): _sent("shipping", Kind.INTEGRATION),
        Hop("ordering", "contracts received"): _received("ordering", "shipping"),
        Hop("ordering", "deliveries done"): _done("ordering"),
        Hop("ordering", "orders cancelled"): _orders(ordered.CANCELLED),
        Hop("ordering", "orders shipped"): _orders(ordered.SHIPPED),
        Hop("ordering", "orders open"): _orders(ordered.OPEN),
    }


def _streams(label: str) -> int:
    rows = StoredEvent.objects.using(context(label).database)
    return rows.filter(context=label, version=1).count()


def _sent(label: str, kind: Kind) -> int:
    rows = OutboxMessage.objects.using(context(label).database)
    return rows.filter(context=label, kind=kind, state=OutboxState.SENT).count()


def _received(label: str, source: str) -> int:
    rows = InboxMessage.objects.using(context(label).database)
    return rows.filter(context=label, source=source).count()


def _done(label: str) -> int:
    rows = Delivery.objects.using(context(label).database)
    return rows.filter(context=label, state=DeliveryState.DONE).count()


def _shipments(status: Shipment.Status) -> int:
    return Shipment.objects.filter(status=status).count()


def _orders(status: OrderSummary.Status) -> int:
    return OrderSummary.objects.filter(status=status).count()
