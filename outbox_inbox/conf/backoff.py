"""Exponential back-off with a cap, jitter and a floor.

Without it an outage would be met by a tight loop, and messages that failed together would fail
together again.
"""

import math
import random as _random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from .times import MOST


@dataclass(frozen=True, slots=True)
class Backoff:
    """Compute the pause before each next attempt.

    The pause before attempt ``n + 1`` is ``first * factor ** (n - 1)``, never more than
    ``maximum``, and shortened by a random part of at most ``jitter``, so that messages that
    failed together are not retried together. It is never shorter than ``first * (1 - jitter)``:
    unlike "full jitter" there is a floor, so that an outage cannot cause a tight loop.

    Arguments:
        first: pause after the first failed attempt; default one second.
        factor: by how much each further pause grows, at least 1; default 2.
        maximum: the longest pause, at least ``first`` and at most 36,500 days; default one hour.
        jitter: the largest random share by which a pause is shortened, 0 <= jitter < 1; default 0.2.

    Raises:
        ValueError: an argument is outside its range.
    """

    first: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(hours=1)
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.first <= timedelta(0):
            raise ValueError(f"first must be longer than zero, not {self.first!r}")
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ValueError(f"factor must be at least 1, not {self.factor!r}")
        if self.maximum < self.first:
            raise ValueError(
                f"maximum must not be shorter than first ({self.first!r}), not {self.maximum!r}"
            )
        if self.maximum > MOST:
            raise ValueError(f"maximum must be at most {MOST}, not {self.maximum!r}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must be at least 0 and less than 1, not {self.jitter!r}")

    def delay(self, attempt: int, random: Callable[[], float] = _random.random) -> timedelta:
        """Return the pause after failed attempt number ``attempt`` (1 is the first).

        Arguments:
            attempt: how many attempts have failed, at least 1; a large number does not overflow.
            random: returns a random number in [0, 1); tests inject their own.

        Raises:
            ValueError: ``attempt`` is less than 1.
        """
        return self.longest(attempt) * (1 - self.jitter * random())

    def longest(self, attempt: int) -> timedelta:
        """Return the pause after a failed attempt without its random part.

        Raises:
            ValueError: ``attempt`` is less than 1.
        """
        if attempt < 1:
            raise ValueError(f"attempt counts from 1, not {attempt!r}")
        try:
            grown = self.first.total_seconds() * self.factor ** (attempt - 1)
        except OverflowError:
            grown = math.inf
        return timedelta(seconds=min(grown, self.maximum.total_seconds()))
