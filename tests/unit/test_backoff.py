from datetime import timedelta

import pytest

from outbox_inbox.conf import Backoff

SECOND = timedelta(seconds=1)


def lowest() -> float:
    """Chance that takes nothing away."""
    return 0.0


def highest() -> float:
    """Chance that takes away all it may."""
    return 1.0


def test_first_pause():
    """The pause after the first failed attempt is the one named first."""
    assert Backoff(first=3 * SECOND).delay(1, random=lowest) == 3 * SECOND


def test_growth():
    """Each further pause is longer by the factor."""
    backoff = Backoff(first=SECOND, factor=3)
    assert [backoff.delay(n, random=lowest) / SECOND for n in (1, 2, 3, 4)] == [1, 3, 9, 27]


def test_ceiling():
    """No pause is longer than the maximum."""
    assert Backoff(first=SECOND, maximum=10 * SECOND).delay(5, random=lowest) == 10 * SECOND


@pytest.mark.parametrize("attempt", [64, 1_025, 10**9])
def test_no_overflow(attempt):
    """A message that has failed very often waits for the maximum, without an overflow."""
    assert Backoff().delay(attempt, random=lowest) == timedelta(hours=1)


def test_longest_maximum():
    """The longest timedelta there is can be the maximum."""
    assert Backoff(maximum=timedelta.max).delay(20) < timedelta.max


def test_jitter_shortens():
    """Chance takes away up to the share named as jitter."""
    assert Backoff(first=10 * SECOND, jitter=0.2).delay(1, random=lambda: 0.5) == 9 * SECOND


def test_floor():
    """Whatever chance says, a pause keeps its floor, so there is no tight loop of retries."""
    backoff = Backoff(first=10 * SECOND, jitter=0.2)
    assert backoff.delay(1, random=highest) == 8 * SECOND


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
