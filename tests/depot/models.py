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


class Parcel(models.Model):
    """A row with a column of every sort that could be changed on its way to another database."""

    id = models.BigAutoField(primary_key=True)
    number = models.UUIDField(unique=True)
    changed = models.DateTimeField(auto_now=True)
    weight = models.DecimalField(max_digits=8, decimal_places=3)
    label = models.JSONField(null=True)
    stamp = models.BinaryField()
    travels = models.DurationField()
    within = models.ForeignKey("self", on_delete=models.CASCADE, null=True)
    picks = models.ManyToManyField(Pick)
    double = models.GeneratedField(
        expression=models.F("weight") * 2,
        output_field=models.DecimalField(max_digits=9, decimal_places=3),
        db_persist=True,
    )

    def __str__(self) -> str:
        return f"parcel {self.number}"
