"""What shipping does when something has happened: it keeps its shipments and its board."""

from collections import Counter, defaultdict
from decimal import Decimal

from django.db.models import F

from outbox_inbox import handles

from .contracts.ordering import OrderCancelled, OrderPlaced
from .events import RequestUrged, RequestWithdrawn, ShipmentRequested
from .models import CountryBoard, Shipment


# One handler for all of them: only so does a withdrawal never overtake its request.
@handles(ShipmentRequested, RequestWithdrawn, RequestUrged, transaction="batch")
def keep_shipments(event: ShipmentRequested | RequestWithdrawn | RequestUrged) -> None:
    """Book what is requested, call off what is withdrawn, mark what is late."""
    match event:
        case ShipmentRequested():
            Shipment.objects.create(
                reference=event.reference, destination=event.destination, due_on=event.due_on
            )
        case RequestWithdrawn():
            # Only what is still in the house: nobody stops a lorry. The customer's order learns
            # from our `shipment_dispatched` that it was too late.
            Shipment.objects.filter(
                reference=event.reference, status=Shipment.Status.BOOKED
            ).update(status=Shipment.Status.CALLED_OFF)
        case RequestUrged():
            Shipment.objects.filter(reference=event.reference).update(urgent=True)


# Straight from ordering's contracts, without a translator: the board counts orders as they are.
# It gets many at once, so a country costs one UPDATE for all of them.
@handles(OrderPlaced, OrderCancelled, many=True)
def count_orders(events: list[OrderPlaced | OrderCancelled]) -> None:
    """Keep the board: an order placed counts, an order cancelled no longer does."""
    orders: Counter[str] = Counter()
    revenue: dict[str, Decimal] = defaultdict(Decimal)
    for event in events:
        sign = 1 if isinstance(event, OrderPlaced) else -1
        orders[event.country] += sign
        revenue[event.country] += sign * event.total
    # In the order of their names: two workers that lock the same rows do not wait for each other
    # in a circle.
    for country in sorted(orders):
        CountryBoard.objects.get_or_create(country=country)
        CountryBoard.objects.filter(country=country).update(
            orders=F("orders") + orders[country], revenue=F("revenue") + revenue[country]
        )
