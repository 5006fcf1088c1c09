"""The use case of shipping: everything that other code may ask of it."""

from datetime import date

from django.db import transaction

from outbox_inbox import record
from outbox_inbox.contexts import get_context

from .events import HandedToCarrier
from .models import Shipment

__all__ = ["ShipmentRefused", "dispatch_shipment"]


class ShipmentRefused(Exception):
    """The shipment cannot be dispatched, and a retry will not help; the message says why."""


def dispatch_shipment(reference: str, on: date) -> bool:
    """Dispatch a shipment, and return whether that changed anything: it is dispatched once.

    Raises:
        Shipment.DoesNotExist: it has not been booked, or the request has not arrived yet.
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
