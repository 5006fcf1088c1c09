"""Shipping's shipments and board in the admin: to look at, since only events change them."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from .models import CountryBoard, Shipment


class LookOnly(admin.ModelAdmin):
    """No add, no change, no delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Shipments are booked, and orders counted, when an event says so."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A shipment leaves through the use case."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """What has happened does not go away."""
        return False


@admin.register(Shipment)
class ShipmentAdmin(LookOnly):
    """Shipments to look at, to filter and to search."""

    list_display = ("reference", "destination", "status", "due_on", "dispatched_on")
    list_filter = ("status", "destination")
    search_fields = ("reference",)


@admin.register(CountryBoard)
class CountryBoardAdmin(LookOnly):
    """The board, the best customers first."""

    list_display = ("country", "orders", "revenue")
    ordering = ("-revenue", "country")
