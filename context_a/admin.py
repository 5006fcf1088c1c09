"""Ordering's read models in the admin: read-only, since only events change them."""

from django.contrib import admin
from django.http import HttpRequest

from .models import CountryBoard, OrderSummary


@admin.register(OrderSummary)
class OrderSummaryAdmin(admin.ModelAdmin):
    """Orders: read-only, with filters and search."""

    list_display = (
        "order_id",
        "customer",
        "country",
        "total",
        "status",
        "ordered_on",
        "shipped_on",
    )
    list_filter = ("status", "country")
    search_fields = ("order_id", "customer")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: an order is placed through the use case."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OrderSummary | None = None) -> bool:
        """Refuse: only events change an order."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OrderSummary | None = None) -> bool:
        """Refuse: the events of the order would remain."""
        return False


@admin.register(CountryBoard)
class CountryBoardAdmin(admin.ModelAdmin):
    """The board: read-only."""

    list_display = ("country", "orders", "revenue")
    search_fields = ("country",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: only events fill the board."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: CountryBoard | None = None) -> bool:
        """Refuse: only events change the board."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: CountryBoard | None = None) -> bool:
        """Refuse: a rebuild empties the board."""
        return False
