"""The table of billing: it names a user of the project."""

from django.conf import settings
from django.db import models


class Invoice(models.Model):
    """An invoice, and the user that wrote it, whose row may be on another database."""

    number = models.CharField(max_length=20)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, null=True, db_constraint=False
    )

    def __str__(self) -> str:
        return self.number
