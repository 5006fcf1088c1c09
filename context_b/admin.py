"""Shipping's shipments and board in the admin: read-only, since only events change them."""

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from .models import CountryBoard, Shipment


class ReadOnlyAdmin(admin.ModelAdmin):
    """Refuses to add, change or delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: events book shipments and count orders."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: a shipment is dispatched through the use case."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse: the events would remain."""
        return False


@admin.register(Shipment)
class ShipmentAdmin(ReadOnlyAdmin):
    """Shipments, with filters and search."""

    list_display = ("reference", "destination", "status", "due_on", "dispatched_on")
    list_filter = ("status", "destination")
    search_fields = ("reference",)


@admin.register(CountryBoard)
class CountryBoardAdmin(ReadOnlyAdmin):
    """The board, the highest revenue first."""

    list_display = ("country", "orders", "revenue")
    ordering = ("-revenue", "country")
