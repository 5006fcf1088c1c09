"""The clock of the business: what day it is, for ordering. A test or a rehearsal sets its own."""

from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings

GRACE = timedelta(days=1)
"""So long is a new order never overdue: orders that are brought in late, with a history, are
heard to be on their way before anybody is told that they are not."""


def now() -> datetime:
    """Return the time of the business: the beginning of BUSINESS_DAY if that is set."""
    day: date | None = getattr(settings, "BUSINESS_DAY", None)
    return datetime.now(UTC) if day is None else datetime.combine(day, time(), UTC)


def after(day: date) -> datetime:
    """Return when a day of the business will be over, and the grace, by the clock of the world.

    What is a week ahead for the business is a week ahead for the queues, whose clock is real.
    """
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return datetime.now(UTC) + max(end - now(), GRACE)
