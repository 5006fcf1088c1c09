"""The read model of the shop: the new code takes an event more."""

from outbox_inbox.projections import projects
from tests.rollout import NEW, PROJECTS

from . import events
from .models import Line

if PROJECTS:

    @projects(events.Placed, into="line")
    def add_step(event: events.Placed) -> None:
        """Add a row."""
        Line.objects.create(order=event.order, number=2 * event.number)


if PROJECTS and NEW:

    @projects(events.Refunded, into="line")
    def add_refund(event: events.Refunded) -> None:
        """Add a row."""
        Line.objects.create(order=event.order, number=2 * event.number + 1)
