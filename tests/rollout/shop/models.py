"""What was recorded, and its effects: nothing is unique, so that what is repeated is seen."""

from django.db import models


class Order(models.Model):
    """A key, and how many steps it has."""

    id = models.CharField(primary_key=True, max_length=20)
    steps = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.id


class Step(models.Model):
    """One step that was recorded; ``fresh``: by the new code."""

    order = models.CharField(max_length=20)
    number = models.IntegerField()
    fresh = models.BooleanField()

    def __str__(self) -> str:
        return f"{self.order} {self.number}"


class Entry(models.Model):
    """An effect of a consumer."""

    consumer = models.CharField(max_length=20)
    order = models.CharField(max_length=20)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.consumer} {self.order} {self.number}"


class Line(models.Model):
    """A row of the read model."""

    consumer = models.CharField(max_length=20, default="line")
    order = models.CharField(max_length=20)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.order} {self.number}"
