"""The read models of ordering, for display. Decisions are made on the streams only."""

from django.db import models


class OrderSummary(models.Model):
    """One order in one row, updated by the consumer ``ordering.summaries``."""

    class Status(models.TextChoices):
        """How far an order is."""

        OPEN = "open"
        """Placed, and not shipped yet."""
        SHIPPED = "shipped"
        """On its way to the customer."""
        CANCELLED = "cancelled"
        """Will not be shipped."""

    order_id = models.CharField(max_length=100, primary_key=True)
    customer = models.CharField(max_length=100)
    country = models.CharField(max_length=100)
    ordered_on = models.DateField()
    required_on = models.DateField()
    shipped_on = models.DateField(null=True)
    total = models.DecimalField(max_digits=20, decimal_places=2)
    status = models.CharField(max_length=9, choices=Status, default=Status.OPEN)

    class Meta:
        verbose_name_plural = "order summaries"

    def __str__(self) -> str:
        return f"order {self.order_id} of {self.customer} ({self.status})"


class CountryBoard(models.Model):
    """How many orders each country has placed, and what they are worth.

    Updated from ordering's stream by `projections.count_by_country`, and rebuilt from it by
    ``manage.py rebuild_projection country_board``.
    """

    country = models.CharField(max_length=100, primary_key=True)
    orders = models.IntegerField(default=0)
    revenue = models.DecimalField(max_digits=20, decimal_places=2, default=0)

    class Meta:
        verbose_name_plural = "country board"

    def __str__(self) -> str:
        return f"{self.country}: {self.orders} orders, {self.revenue}"
