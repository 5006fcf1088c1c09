"""Read models, each kept in another way."""

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
