"""Ids of messages: UUIDv7, so that rows come in the order of their ids within a process."""

import os
import threading
import time
from typing import Final
from uuid import UUID


class Clock:
    """Makes (millisecond, counter) pairs that only grow, also when the system clock goes back."""

    COUNTER_BITS: Final = 42

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, with a free lock."""
        self.lock = threading.Lock()
        self.millisecond = 0
        self.counter = 0

    def tick(self, now: int, start: int) -> tuple[int, int]:
        """Return the next pair; a new millisecond starts its counter at `start`."""
        with self.lock:
            if now > self.millisecond:
                self.millisecond, self.counter = now, start
            elif self.counter + 1 < 1 << self.COUNTER_BITS:
                self.counter += 1
            else:
                self.millisecond, self.counter = self.millisecond + 1, start
            return self.millisecond, self.counter


_clock = Clock()

# A forked worker must neither wait for a lock that a thread of its parent held during the fork, nor
# continue the counter that its parent continues as well: ids would collide.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clock.reset)


def uuid7() -> UUID:
    """Make a UUIDv7 (RFC 9562), greater than every one made before in this process.

    48 bits of milliseconds, then a counter of 42 bits that starts at random in each millisecond
    (section 6.2, method 1), then 32 random bits. When the clock goes back, the counter goes on.
    Thread-safe; a forked process starts a counter of its own.
    """
    random = int.from_bytes(os.urandom(10), "big")
    start = random >> 39  # 41 random bits: the highest of the counter is left as room to count.
    millisecond, counter = _clock.tick(time.time_ns() // 1_000_000, start)
    return UUID(
        int=millisecond << 80
        | 0x7000 << 64
        | (counter >> 30) << 64
        | 0x8000 << 48
        | (counter & 0x3FFF_FFFF) << 32
        | random & 0xFFFF_FFFF
    )
