"""The effects of the consumers: nothing is unique, so that what is repeated is seen."""

from django.db import models


class Entry(models.Model):
    """An effect of a consumer."""

    consumer = models.CharField(max_length=20)
    order = models.CharField(max_length=20)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.consumer} {self.order} {self.number}"
