"""Ordering's read models in the admin: to look at, since only events change them."""

from django.contrib import admin
from django.http import HttpRequest

from .models import CountryBoard, OrderSummary


@admin.register(OrderSummary)
class OrderSummaryAdmin(admin.ModelAdmin):
    """Orders to look at, to filter and to search."""

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
        """An order is placed through the use case."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OrderSummary | None = None) -> bool:
        """What has happened does not change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OrderSummary | None = None) -> bool:
        """What has happened does not go away."""
        return False


@admin.register(CountryBoard)
class CountryBoardAdmin(admin.ModelAdmin):
    """The board to look at."""

    list_display = ("country", "orders", "revenue")
    search_fields = ("country",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only events fill it."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: CountryBoard | None = None) -> bool:
        """Only events change it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: CountryBoard | None = None) -> bool:
        """A rebuild empties it."""
        return False
