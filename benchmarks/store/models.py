"""The business row, which use cases and handlers write."""

from django.db import models


class Purchase(models.Model):
    """One purchase."""

    id = models.BigAutoField(primary_key=True)
    order = models.CharField(max_length=50)
    number = models.IntegerField()
    country = models.CharField(max_length=2)
    total = models.DecimalField(max_digits=12, decimal_places=2)
    bought_at = models.DateTimeField()
    note = models.TextField()

    def __str__(self) -> str:
        return f"{self.order} #{self.number}"
