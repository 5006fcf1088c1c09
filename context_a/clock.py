"""The clock of ordering: the date of its business, which tests and old orders need to set.

With the real date, orders of 1996 would all be overdue as soon as they are placed.
"""

from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings

GRACE = timedelta(days=1)
"""A new order is not overdue before this time has passed: an order that is entered late may have been
shipped already, and that event must arrive first."""


def now() -> datetime:
    """Return the time of the business: the start of BUSINESS_DAY if it is set, else the real time."""
    day: date | None = getattr(settings, "BUSINESS_DAY", None)
    return datetime.now(UTC) if day is None else datetime.combine(day, time(), UTC)


def after(day: date) -> datetime:
    """Return the real time at which a day of the business is over, and the grace has passed.

    The queues use the real clock: one week ahead for the business is one week ahead for them.
    """
    end = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return datetime.now(UTC) + max(end - now(), GRACE)
