"""The effects of the handlers: a plain list, in which anything may stand twice."""

from django.db import models


class Entry(models.Model):
    """One effect; no unique constraint, so that a repeated one is seen."""

    id = models.BigAutoField(primary_key=True)
    consumer = models.CharField(max_length=50)
    order = models.CharField(max_length=200)
    number = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.consumer} {self.order} {self.number}"


class Remark(models.Model):
    """Refers to an entry; whether that exists is only asked by COMMIT."""

    entry = models.ForeignKey(Entry, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"remark on {self.entry_id}"
