"""What one call of a mover has done so far, and whether it should go on."""

from collections.abc import Callable
from dataclasses import dataclass

from outbox_inbox.conf import settings
from outbox_inbox.conf.clock import monotonic

TURN = 0.5
"""Seconds after which a mover leaves a partition or read model for the next one, between transactions."""

TURN_BATCHES = 20
"""Batches after which it does the same: 10,000 rows by default, what the fastest mover does in about `TURN`.

So a turn ends on a clock that stands still, too, and is known to look at no more rows than these.
"""


def never() -> bool:
    """Do not stop: the default of a mover's ``stop``."""
    return False


def ignore(*_: object) -> None:
    """Report nothing: the default of a mover's ``progress``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a mover did."""

    done: int = 0
    """Messages sent or received, or deliveries handled."""
    failed: int = 0
    """Attempts that failed and will be followed by another."""
    dead: int = 0
    """Messages or deliveries that became dead letters."""
    held: int = 0
    """Followers set to wait behind a blocked head."""
    busy: int = 0
    """Partitions with work that another worker owned."""

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            done=self.done + other.done,
            failed=self.failed + other.failed,
            dead=self.dead + other.dead,
            held=self.held + other.held,
            busy=self.busy + other.busy,
        )

    @property
    def steps(self) -> int:
        """How much was changed; after a sweep that changed nothing there is no need for another."""
        return self.done + self.failed + self.dead + self.held


class MoverCall:
    """One call of a mover: counts what it does, and keeps to its limit and to its turns.

    A turn is what one partition may have at a time, in seconds and in rows. Without it a mover would stay until the partition is empty:
    one busy key would keep the process from all others, from the relay, and from the next try of
    an unavailable transport.

    Arguments:
        limit: stop after so many messages or deliveries; None: no limit.
        stop: asked between transactions; true ends the call.
        progress: called with what each transaction has done.
    """

    def __init__(
        self, limit: int | None, stop: Callable[[], bool], progress: Callable[[int], None]
    ) -> None:
        self.outcome = Outcome()
        self._left = limit
        self._stop = stop
        self._progress = progress
        self._turn_ends = self._most_steps = float("inf")
        self._before_turn = 0

    def begin_turn(self) -> None:
        """Begin the turn of the next partition; without it, a turn has no end."""
        self._turn_ends = monotonic() + TURN
        self._before_turn = self.outcome.steps
        self._most_steps = self._before_turn + TURN_BATCHES * settings().batch_size

    def finished(self) -> bool:
        """Return whether the turn should end."""
        # A turn that has changed nothing goes on: on a machine that is too slow for its length, no
        # partition would ever move.
        steps = self.outcome.steps
        over = steps > self._before_turn and (
            steps >= self._most_steps or monotonic() >= self._turn_ends
        )
        return over or self.ended()

    def ended(self) -> bool:
        """Return whether the whole call should end."""
        return self._stop() or (self._left is not None and self._left <= 0)

    def batch_size(self) -> int:
        """Return how many to take next: a batch, or what the limit has left of it."""
        batch = settings().batch_size
        return batch if self._left is None else min(self._left, batch)

    def add(self, outcome: Outcome) -> None:
        """Count what a committed transaction has done."""
        self.outcome += outcome
        if self._left is not None:
            self._left -= outcome.done + outcome.failed + outcome.dead
        if outcome.done:
            self._progress(outcome.done)
