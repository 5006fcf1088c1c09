"""The use case of shipping: all that the outside world can ask of it."""

from datetime import date

from django.db import transaction

from outbox_inbox import record
from outbox_inbox.contexts import get_context

from .events import HandedToCarrier
from .models import Shipment

__all__ = ["ShipmentRefused", "dispatch_shipment"]


class ShipmentRefused(Exception):
    """The shipment cannot do this, now or ever; the message says why."""


def dispatch_shipment(reference: str, on: date) -> bool:
    """Send a shipment off, and say whether that changed anything: it leaves the house once.

    Raises:
        Shipment.DoesNotExist: nobody has booked it, or the request is still on its way here.
        ShipmentRefused: it has been called off.
    """
    with transaction.atomic(using=get_context("shipping").database):
        shipment = Shipment.objects.select_for_update().get(reference=reference)
        if shipment.status == Shipment.Status.CALLED_OFF:
            raise ShipmentRefused(f"shipment {reference} has been called off")
        if shipment.status == Shipment.Status.DISPATCHED:
            return False
        shipment.status = Shipment.Status.DISPATCHED
        shipment.dispatched_on = on
        shipment.save(update_fields=["status", "dispatched_on"])
        record(HandedToCarrier(reference=reference, on=on))
        return True
