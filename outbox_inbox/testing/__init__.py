"""Helpers for the tests of a project: drain the queues, return recorded events, advance the time.

They work inside ``TestCase`` and ``TransactionTestCase`` (and pytest-django's ``db`` fixtures), on
all databases that the test may use.
"""

from .clock import advance
from .draining import DrainFailed, drain
from .recorded import recorded

__all__ = ["DrainFailed", "advance", "drain", "recorded"]
