"""The business row: what a use case writes, and what the handlers make of an event."""

from django.db import models


class Purchase(models.Model):
    """Somebody bought something."""

    id = models.BigAutoField(primary_key=True)
    order = models.CharField(max_length=50)
    number = models.IntegerField()
    country = models.CharField(max_length=2)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    bought_at = models.DateTimeField()
    note = models.TextField()

    def __str__(self) -> str:
        return f"{self.order} #{self.number}"
