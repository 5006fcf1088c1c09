"""A plain app within billing: its table belongs to billing."""

from django.db import models


class Page(models.Model):
    """A page of an invoice."""

    invoice = models.ForeignKey("billing.Invoice", models.CASCADE)

    def __str__(self) -> str:
        return f"page of {self.invoice_id}"
