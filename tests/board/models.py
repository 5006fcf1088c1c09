"""Read models, each kept in another way."""

from uuid import uuid4

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models


class HighScore(models.Model):
    """Kept by two functions, one event at a time."""

    player = models.CharField(max_length=50, unique=True)
    points = models.IntegerField(default=0)
    events = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.player}: {self.points}"


class Ranking(models.Model):
    """Kept by a function that takes lists."""

    player = models.CharField(max_length=50, unique=True)
    points = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.player}: {self.points}"


class Team(models.Model):
    """One of two tables that a class keeps."""

    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    """The other one, which refers to the first."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    player = models.CharField(max_length=50, unique=True)
    scores = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.player}: {self.scores}"


class Sheet(models.Model):
    """Kept by a class that does not say so: it stands for whatever is elsewhere."""

    player = models.CharField(max_length=50)
    points = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.player}: {self.points}"


class Pass(models.Model):
    """What a player shows at the door: its id is made up by the model."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    player = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.player


class Fan(models.Model):
    """Not of a read model: it refers to rows of several, in every way that Django has."""

    name = models.CharField(max_length=50)
    score = models.ForeignKey(HighScore, on_delete=models.CASCADE, null=True)
    unchecked = models.ForeignKey(
        HighScore, on_delete=models.DO_NOTHING, null=True, db_constraint=False, related_name="+"
    )
    member = models.ForeignKey(Member, on_delete=models.CASCADE, null=True)
    shown = models.ForeignKey(Pass, on_delete=models.CASCADE, null=True)
    seen = models.ManyToManyField(HighScore, related_name="+")
    # Without a constraint: this app has no migrations, so its tables are created before that one.
    kind = models.ForeignKey(ContentType, on_delete=models.CASCADE, null=True, db_constraint=False)
    number = models.IntegerField(null=True)
    any = GenericForeignKey("kind", "number")

    def __str__(self) -> str:
        return self.name
