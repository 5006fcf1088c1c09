"""How much one batch carries through a transport: bounded in bytes as well as in rows.

A batch that cannot pass within PUBLISH_TIMEOUT would be tried again as a whole, for ever, however
small its messages are. So it begins small enough for a slow link, a time-out halves it, and it grows
again while there is time to spare.
"""

from typing import Final

from outbox_inbox.conf import settings

_SLOW_LINK: Final = 1_250_000
"""Bytes a second of a link of 10 Mbit/s, which carries a whole batch in half of PUBLISH_TIMEOUT."""

_MOST: Final = 16_000_000
"""Bytes of a batch, however long PUBLISH_TIMEOUT is: it is in the memory of its process."""


class BatchBound:
    """The bound of the batches of one outbox partition or receiver, as this process has learned it.

    A single message is never too large for it.

    Arguments:
        timeout: PUBLISH_TIMEOUT in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._halvings = 0

    @property
    def max_bytes(self) -> int:
        """The bytes of payloads and headers in a batch of more than one message."""
        return max(1, min(int(_SLOW_LINK * self._timeout / 2), _MOST) >> self._halvings)

    def rows(self, wanted: int) -> int:
        """Return how many messages a batch may have, at most as many as wanted."""
        return min(wanted, max(1, settings().batch_size >> self._halvings))

    def halve(self) -> None:
        """Note that a batch did not pass: the next one has half the rows and bytes, at least one row."""
        self._halvings = min(self._halvings + 1, settings().batch_size.bit_length())

    def note_batch(self, seconds: float, *, full: bool) -> None:
        """Note that a batch has passed.

        Arguments:
            seconds: what the transport took.
            full: there was no room in it for the next message.
        """
        if seconds > self._timeout / 2:
            self.halve()  # with a little more load on the link, the next one would not pass
        elif full and self._halvings and seconds < self._timeout / 4:
            self._halvings -= 1
