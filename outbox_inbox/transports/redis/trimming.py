"""Deletes entries that every consumer group has read, and never any other."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic

from outbox_inbox.contexts import Context

from .groups import Group, Id, groups_of, oldest_pending, shown_id
from .link import Link, ResponseError, command
from .streams import Streams

PAUSE = 1.0
"""Seconds after which the next acknowledgement trims a stream again."""
MANY = 1_000
"""Acknowledged entries after which it is trimmed sooner."""


class Trimmer:
    """Trims streams now and then, as receivers acknowledge what they have read.

    It is done by whole nodes of the stream (``~``), at most ten thousand entries at a time, so
    that the server is not kept from other work.

    Arguments:
        users: returns the contexts of this project that use the transport.
    """

    def __init__(
        self, link: Link, streams: Streams, users: Callable[[], Iterable[Context]]
    ) -> None:
        self._link = link
        self._streams = streams
        self._users = users
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
        """Trim streams up to the first entry that some group still needs.

        One that lacks the group of a context of this project is left alone: the context has not
        received yet, and everything there is for it as well.
        """
        expected = self._expected()
        commands = [
            command("XTRIM", stream, "MINID", "~", shown_id(first))
            for stream, groups in self._groups(streams).items()
            if {group.label for group in groups} >= expected.get(stream, set())
            for first in self._first_needed(stream, groups)
        ]
        # A refusal (of a user who may not) stops nobody from receiving; `problems` tells of it.
        self._link.ask(*commands)

    def _expected(self) -> Mapping[str, set[str]]:
        """Return for each stream the contexts of this project that read it."""
        expected: dict[str, set[str]] = {}
        for user in self._users():
            for stream in self._streams.known(user):
                expected.setdefault(stream, set()).add(user.label)
        return expected

    def _groups(self, streams: Iterable[str]) -> dict[str, list[Group]]:
        names = list(streams)
        answers = self._link.ask(*(command("XINFO", "GROUPS", name) for name in names))
        return {name: groups_of(answer) for name, answer in zip(names, answers, strict=True)}

    def _first_needed(self, stream: str, groups: Sequence[Group]) -> list[Id]:
        """Return an id before which every group has read everything; nothing if nobody knows.

        A group that reads on in the meantime only needs less than is said here.
        """
        behind = [group.label for group in groups if group.pending]
        pending = self._link.ask(*(command("XPENDING", stream, label) for label in behind))
        if not groups or any(isinstance(answer, ResponseError) for answer in pending):
            return []
        oldest = [first for first in map(oldest_pending, pending) if first is not None]
        return [min([*oldest, *(group.delivered for group in groups)])]
