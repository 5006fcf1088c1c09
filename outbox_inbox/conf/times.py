"""The range of every time and duration that comes from outside of the app.

A time at an end of the calendar can be stored, but not converted to another time zone: each read of such
a row would raise, on a page of the admin as in a worker.
"""

from datetime import datetime, timedelta

from django.utils import timezone

FIRST_YEAR, LAST_YEAR = 2, 9998
MOST = timedelta(days=36_500)
"""The longest duration: about a century. It can be added to any time at which this code runs."""


def time_problem(value: object) -> str:
    """Return what is expected instead of a value that is not a time for the queues, or nothing."""
    if not isinstance(value, datetime) or timezone.is_naive(value):
        return "expected an aware datetime"
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        return f"expected a year from {FIRST_YEAR} to {LAST_YEAR}"
    return ""
