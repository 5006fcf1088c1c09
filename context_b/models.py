"""The state of shipping, in plain Django models."""

from django.db import models


class Shipment(models.Model):
    """Goods that have to go, or went, to a country."""

    class Status(models.TextChoices):
        """How far a shipment is."""

        BOOKED = "booked"
        """Wanted, and still in the house."""
        DISPATCHED = "dispatched"
        """Left the house."""
        CALLED_OFF = "called off"
        """No longer wanted, and never left the house."""

    reference = models.CharField(max_length=100, unique=True)
    destination = models.CharField(max_length=100)
    due_on = models.DateField()
    dispatched_on = models.DateField(null=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.BOOKED)
    urgent = models.BooleanField(default=False, db_default=False)
    """It should have left before; told by ordering, so perhaps after it has left."""

    def __str__(self) -> str:
        return f"shipment {self.reference} to {self.destination} ({self.status})"


class CountryBoard(models.Model):
    """How many orders each country has placed, and what they are worth: the board on the wall.

    A read model built from another context's events. Shipping plans its lorries by it, and goes
    on doing so while ordering is down.
    """

    country = models.CharField(max_length=100, primary_key=True)
    orders = models.IntegerField(default=0)
    revenue = models.DecimalField(max_digits=20, decimal_places=2, default=0)

    class Meta:
        verbose_name_plural = "country board"

    def __str__(self) -> str:
        return f"{self.country}: {self.orders} orders, {self.revenue}"
