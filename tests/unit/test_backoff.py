from datetime import timedelta

import pytest

from outbox_inbox.conf import Backoff

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("backoff", "attempt", "chance", "pause"),
    [
        (Backoff(first=3 * SECOND), 1, 0, 3 * SECOND),
        *((Backoff(first=SECOND, factor=3), n, 0, 3 ** (n - 1) * SECOND) for n in (2, 3, 4)),
        (Backoff(first=SECOND, maximum=10 * SECOND), 5, 0, 10 * SECOND),
        *((Backoff(), attempt, 0, timedelta(hours=1)) for attempt in (64, 1_025, 10**9)),
        (Backoff(first=10 * SECOND, jitter=0.2), 1, 0.5, 9 * SECOND),
        (Backoff(first=10 * SECOND, jitter=0.2), 1, 1, 8 * SECOND),
    ],
    ids=[
        "first_pause",
        "growth",
        "growth",
        "growth",
        "ceiling",
        "no_overflow",
        "no_overflow",
        "no_overflow",
        "jitter_shortens",
        "floor",
    ],
)
def test_pause(backoff, attempt, chance, pause):
    """It grows by the factor up to the maximum; chance takes away up to the share of jitter."""
    assert backoff.delay(attempt, random=lambda: chance) == pause


def test_longest_maximum():
    """A century can be added to the time of any failed attempt."""
    assert Backoff(maximum=timedelta(days=36_500)).delay(20) < timedelta(days=36_500)


def test_a_maximum_that_leads_out_of_the_calendar_is_refused():
    """The database could not store when the next attempt is due, and its worker would fail."""
    with pytest.raises(ValueError, match="maximum must be at most 36500 days"):
        Backoff(maximum=timedelta.max)


def test_jitter_spreads():
    """Messages that failed together come back at different times."""
    backoff = Backoff()
    assert len({backoff.delay(8) for _ in range(50)}) > 40


def test_attempts_count_from_one():
    """There is no pause before the first attempt to ask for."""
    with pytest.raises(ValueError, match="attempt counts from 1, not 0"):
        Backoff().delay(0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"first": timedelta(0)}, "first"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"factor": float("inf")}, "factor"),
        ({"first": SECOND, "maximum": SECOND / 2}, "maximum"),
        ({"jitter": 1}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
    ],
)
def test_ranges(arguments, name):
    """An argument outside its range is refused by name."""
    with pytest.raises(ValueError, match=f"^{name} must"):
        Backoff(**arguments)
