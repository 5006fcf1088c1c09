"""The projections of the board; each does what the test's script says as well."""

from typing import Any

from django.db.models import F

from outbox_inbox import Envelope, upcasts
from outbox_inbox.projections import Projection, projects
from tests.support.script import play

from .events import Annulled, Scored
from .models import HighScore, Member, Ranking, Sheet, Team


@upcasts(Annulled, from_version=1)
def points_from_minus(data: dict[str, Any]) -> dict[str, Any]:
    """What is called points had another name at first."""
    return {"player": data["player"], "points": data["minus"]}


def _count(player: str, points: int) -> None:
    HighScore.objects.get_or_create(player=player)
    HighScore.objects.filter(player=player).update(
        points=F("points") + points, events=F("events") + 1
    )


@projects(Scored, into="high_score")
def add(event: Scored) -> None:
    """Count points."""
    _count(event.player, event.points)
    play("add", event)


@projects(Annulled, into="high_score", takes_envelope=True)
def take_away(event: Annulled, envelope: Envelope) -> None:
    """Take points away."""
    _count(event.player, -event.points)
    play("take_away", event, envelope)


@projects(Scored, Annulled, into="ranking", many=True)
def rank(events: list[Scored | Annulled]) -> None:
    """Keep the sum of the points of many events."""
    sums: dict[str, int] = {}
    for event in events:
        sign = 1 if isinstance(event, Scored) else -1
        sums[event.player] = sums.get(event.player, 0) + sign * event.points
    Ranking.objects.bulk_create([Ranking(player=name) for name in sums], ignore_conflicts=True)
    for name, points in sorted(sums.items()):
        Ranking.objects.filter(player=name).update(points=F("points") + points)
    play("rank", events)


class Teams(Projection, name="teams", events=[Scored], models=[Team, Member]):
    """Who has scored, by the first letter of their names."""

    def apply(self, event: Scored) -> None:
        """Count how often a player has scored."""
        team, _ = Team.objects.get_or_create(name=event.player[0])
        member, _ = Member.objects.get_or_create(player=event.player, defaults={"team": team})
        Member.objects.filter(pk=member.pk).update(scores=F("scores") + 1)
        play("teams", event)


class Sheets(Projection, name="sheets", events=[Scored], many=True):
    """Something outside of the database, as far as outbox_inbox knows."""

    def apply(self, events: list[Scored]) -> None:
        """Write the points down."""
        Sheet.objects.bulk_create(
            Sheet(player=event.player, points=event.points) for event in events
        )

    def reset(self) -> None:
        """Tear all sheets up."""
        Sheet.objects.all().delete()
