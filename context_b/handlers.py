"""What shipping does after an event: update its shipments and its board."""

from collections import Counter, defaultdict
from decimal import Decimal

from django.db.models import F

from outbox_inbox import handles

from .contracts.ordering import OrderCancelled, OrderPlaced
from .events import RequestUrged, RequestWithdrawn, ShipmentRequested
from .models import CountryBoard, Shipment


# Together the three are the consumer "shipping.shipments", so that a withdrawal never overtakes its
# request. All effects are in this database, so many events may share a transaction.
@handles(ShipmentRequested, consumer="shipments", transaction="batch")
def book_shipment(event: ShipmentRequested) -> None:
    """Book a requested shipment."""
    Shipment.objects.create(
        reference=event.reference, destination=event.destination, due_on=event.due_on
    )


@handles(RequestWithdrawn, consumer="shipments", transaction="batch")
def call_off_shipment(event: RequestWithdrawn) -> None:
    """Call off a shipment, unless it was dispatched: a lorry on the road cannot be stopped.

    Ordering learns from `shipment_dispatched` that the withdrawal was too late.
    """
    booked = Shipment.objects.filter(reference=event.reference, status=Shipment.Status.BOOKED)
    booked.update(status=Shipment.Status.CALLED_OFF)


@handles(RequestUrged, consumer="shipments", transaction="batch")
def mark_as_urgent(event: RequestUrged) -> None:
    """Mark a late shipment as urgent."""
    Shipment.objects.filter(reference=event.reference).update(urgent=True)


# It handles ordering's contracts directly, without a translator: the board counts orders as ordering
# sees them. It gets many events at once, so it needs one UPDATE a country for all of them.
@handles(OrderPlaced, OrderCancelled, many=True)
def count_orders(events: list[OrderPlaced | OrderCancelled]) -> None:
    """Update the board: a placed order is added, a cancelled one is subtracted."""
    orders: Counter[str] = Counter()
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for event in events:
        sign = 1 if isinstance(event, OrderPlaced) else -1
        orders[event.country] += sign
        revenue[event.country] += sign * event.total
    # Sorted: two workers that lock the same countries in different orders would deadlock.
    for country in sorted(orders):
        CountryBoard.objects.get_or_create(country=country)
        CountryBoard.objects.filter(country=country).update(
            orders=F("orders") + orders[country], revenue=F("revenue") + revenue[country]
        )
