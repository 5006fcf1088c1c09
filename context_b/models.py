"""The state of shipping, in plain Django models."""

from django.db import models


class Shipment(models.Model):
    """Goods to be sent, or already sent, to a country."""

    class Status(models.TextChoices):
        """How far a shipment is."""

        BOOKED = "booked"
        """Requested, and not dispatched yet."""
        DISPATCHED = "dispatched"
        """Left the warehouse."""
        CALLED_OFF = "called off"
        """Withdrawn before it left the warehouse."""

    reference = models.CharField(max_length=100, unique=True)
    destination = models.CharField(max_length=100)
    due_on = models.DateField()
    dispatched_on = models.DateField(null=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.BOOKED)
    urgent = models.BooleanField(default=False, db_default=False)
    """It is late, as ordering has reported: possibly after it was dispatched."""

    def __str__(self) -> str:
        return f"shipment {self.reference} to {self.destination} ({self.status})"


class CountryBoard(models.Model):
    """How many orders each country has placed, and what they are worth.

    A read model built from another context's events: shipping plans its lorries with it, also while
    ordering is down.
    """

    country = models.CharField(max_length=100, primary_key=True)
    orders = models.IntegerField(default=0)
    revenue = models.DecimalField(max_digits=20, decimal_places=2, default=0)

    class Meta:
        verbose_name_plural = "country board"

    def __str__(self) -> str:
        return f"{self.country}: {self.orders} orders, {self.revenue}"
