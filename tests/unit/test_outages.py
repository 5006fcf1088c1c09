"""Everything that fails backs off by one rule: longer with each failure in a row."""

import logging
from datetime import timedelta

import pytest

from outbox_inbox.conf import Backoff
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.queues import outages
from outbox_inbox.queues.outages import Outage, back_off

POLICY = Backoff(first=timedelta(seconds=2), maximum=timedelta(seconds=7), jitter=0)

logger = logging.getLogger(__name__)


class Thing:
    """Something that backs off, with so many failures before."""

    def __init__(self, failures=0):
        self.failures = failures
        self.noted = None

    def back_off(self, error, seconds):
        self.noted = (error, seconds)


@pytest.fixture
def clock(monkeypatch):
    """The time, for the test to set."""
    now = [0.0]
    monkeypatch.setattr(outages, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("failures", "seconds"), [(0, 2), (1, 4), (2, 7), (50, 7)])
def test_the_pause_grows_with_the_failures_in_a_row(failures, seconds):
    """What fails notes its error as one line, with whatever the caller adds."""
    thing = Thing(failures)
    assert back_off(thing, ValueError("no\nway"), POLICY, detail=" (here)").seconds == seconds
    assert thing.noted == ("ValueError: no way (here)", seconds)


def test_an_outage_may_say_how_long_it_lasts_at_most():
    """After it no message should wait for the pause that the earlier failures have grown."""
    error = TransportUnavailable("moving")
    error.longest = timedelta(seconds=3)
    assert back_off(Thing(9), error, POLICY) == error.longest


def test_without_a_policy_it_is_the_setting(settings):
    """BACKOFF is for all that waits in the database."""
    settings.OUTBOX_INBOX = {"BACKOFF": {"first": timedelta(seconds=30), "jitter": 0}}
    assert back_off(Thing(), ValueError()) == timedelta(seconds=30)


def test_an_outage_is_due_after_its_pause(clock, caplog):
    """Its failures are logged with the next try, and its end is."""
    caplog.set_level(logging.INFO)
    outage = Outage("wait", logger, POLICY, meanwhile="polling meanwhile")
    assert (outage.due(), outage.note_failure(OSError("out"))) == (True, 2)
    assert not outage.due()
    clock[0] = 2.0
    assert (outage.due(), outage.note_failure(OSError("out"), " here")) == (True, 4)
    outage.note_success()
    outage.note_success()
    assert (outage.due(), outage.failures) == (True, 0)
    assert [each.getMessage() for each in caplog.records] == [
        "cannot wait: OSError: out (next try in 2.0 s; polling meanwhile)",
        "cannot wait here: OSError: out (next try in 4.0 s; polling meanwhile)",
        "can wait again",
    ]


@pytest.mark.parametrize(
    ("error", "level", "traced"),
    [
        (ValueError("a bug"), logging.ERROR, True),
        (TransportUnavailable("out"), logging.ERROR, False),
        (ValueError("a bug"), logging.WARNING, False),
    ],
)
def test_only_what_does_not_explain_itself_has_its_traceback(caplog, error, level, traced):
    """An outage is understood without; polling makes up for what is only a warning."""
    Outage("relay", logger, POLICY, level=level).note_failure(error)
    (entry,) = caplog.records
    assert (entry.levelno, bool(entry.exc_info)) == (level, traced)
