"""Deletes entries that every consumer group has read, and never any other."""

from collections import Counter
from collections.abc import Iterable
from time import monotonic
from typing import Any

from .groups import Id, groups_of, oldest_pending, shown_id
from .link import Link, command

PAUSE = 1.0
"""Seconds after which the next acknowledgement trims a stream again."""
MANY = 1_000
"""Acknowledged entries after which it is trimmed sooner."""


class Trimmer:
    """Trims streams now and then, as receivers acknowledge what they have read.

    It is done by whole nodes of the stream (``~``), at most ten thousand entries at a time, so
    that the server is not kept from other work.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._acknowledged: Counter[str] = Counter()
        self._trimmed: dict[str, float] = {}

    def acknowledged(self, streams: Iterable[str]) -> None:
        """Note acknowledged entries, by their streams, and trim those whose turn it is.

        Raises:
            TransportUnavailable: the server cannot be reached.
        """
        self._acknowledged.update(streams)
        now = monotonic()
        due = [
            stream
            for stream, count in self._acknowledged.items()
            if count >= MANY or now >= self._trimmed.get(stream, 0) + PAUSE
        ]
        if due:
            self.trim(due)
        for stream in due:
            del self._acknowledged[stream]
            self._trimmed[stream] = now

    def trim(self, streams: Iterable[str]) -> None:
        """Trim streams up to the first entry that some group still needs."""
        needed = first_needed(self._link, streams)
        commands = [
            command("XTRIM", stream, "MINID", "~", shown_id(first))
            for stream, first in needed.items()
        ]
        # A refusal (of a user who may not) stops nobody from receiving; `problems` tells of it.
        self._link.ask(*commands)


def first_needed(link: Link, streams: Iterable[str]) -> dict[str, Id]:
    """Return for each stream that has groups an id before which every one has read everything.

    A group that reads on in the meantime only needs less than is said here.
    """
    names = list(streams)
    groups = [
        (stream, group)
        for stream, answer in zip(names, _ask_groups(link, names), strict=True)
        for group in groups_of(answer)
    ]
    behind = [(stream, group) for stream, group in groups if group.pending]
    pending = link.ask(*(command("XPENDING", stream, group.label) for stream, group in behind))
    oldest = dict(zip(behind, map(oldest_pending, pending), strict=True))
    needed: dict[str, Id] = {}
    for stream, group in groups:
        first = min(oldest.get((stream, group)) or group.delivered, group.delivered)
        needed[stream] = min(first, needed.get(stream, first))
    return needed


def _ask_groups(link: Link, streams: Iterable[str]) -> list[Any]:
    return link.ask(*(command("XINFO", "GROUPS", stream) for stream in streams))
