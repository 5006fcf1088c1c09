"""The effects of the depot's handlers."""

from django.db import models


class Pick(models.Model):
    """One effect; no unique constraint, so that a repeated one is seen."""

    id = models.BigAutoField(primary_key=True)
    consumer = models.CharField(max_length=50)
    order = models.CharField(max_length=200)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.consumer} {self.order} {self.number}"
