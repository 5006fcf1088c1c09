"""An app of a third party, which knows nothing of contexts."""

from django.db import models


class Tag(models.Model):
    """A word that things are tagged with."""

    word = models.CharField(max_length=40)
    colour = models.CharField(max_length=10, default="")

    def __str__(self) -> str:
        return self.word
