"""Deletes old entries that every consumer group has read, and never any other."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context

from .client import Client, ResponseError, command
from .groups import Group, Id, groups_of, id_text, oldest_pending
from .stream_names import StreamNames

PAUSE = 1.0
"""Seconds after which the next acknowledgement trims a stream again."""
MANY = 1_000
"""Acknowledged entries after which a stream is trimmed earlier."""


class Trimmer:
    """Trims streams from time to time, as receivers acknowledge what they have stored.

    A subscriber that has no group yet may be a deployment of which nothing here knows, and which is
    about to start: what every group has read stays for ``keep`` all the same.

    Entries are deleted by whole nodes of the stream (``~``), at most ten thousand at a time, so that
    the server is not kept from other work.
    """

    def __init__(
        self,
        client: Client,
        streams: StreamNames,
        users: Callable[[], Iterable[Context]],
        keep: timedelta,
    ) -> None:
        self._client = client
        self._streams = streams
        self._users = users
        self._keep = keep // timedelta(milliseconds=1)
        self._acknowledged: Counter[str] = Counter()
        self._trimmed: dict[str, float] = {}

    def note_acknowledged(self, streams: Iterable[str]) -> None:
        """Count acknowledged entries, given as the stream of each, and trim the streams that are due."""
        self._acknowledged.update(streams)
        now = monotonic()
        due = [
            stream
            for stream, count in self._acknowledged.items()
            if count >= MANY or now >= self._trimmed.get(stream, 0) + PAUSE
        ]
        if due:
            self.trim_streams(due)
        for stream in due:
            del self._acknowledged[stream]
            self._trimmed[stream] = now

    def trim_streams(self, streams: Iterable[str]) -> None:
        """Trim streams up to the first entry that a group still needs, or that is too young."""
        expected, names = self._expected_groups(), list(streams)
        clock, *replies = self._client.ask(
            command("TIME"), *(command("XINFO", "GROUPS", name) for name in names)
        )
        if isinstance(clock, ResponseError):
            return  # without the server's clock it is unknown how old an entry is
        oldest: Id = (int(clock[0]) * 1000 + int(clock[1]) // 1000 - self._keep, 0)
        commands = [
            command("XTRIM", stream, "MINID", "~", id_text(min(first, oldest)))
            for stream, groups in zip(names, map(groups_of, replies), strict=True)
            # A context of this project without a group has received nothing yet: every entry is
            # for it as well, and trimming would lose its messages.
            if {group.label for group in groups} >= expected.get(stream, set())
            for first in self._first_needed(stream, groups)
        ]
        # A user without the permission to trim can still receive; `problems` reports it.
        self._client.ask(*commands)

    def _expected_groups(self) -> Mapping[str, set[str]]:
        """Return for each stream the contexts of this project that read it."""
        expected: dict[str, set[str]] = {}
        for user in self._users():
            for stream in self._streams.found(user):
                expected.setdefault(stream, set()).add(user.label)
        return expected

    def _first_needed(self, stream: str, groups: Sequence[Group]) -> list[Id]:
        """Return an id before which every group has read everything; empty if it is unknown.

        A group that reads on in the meantime only needs less than this.
        """
        behind = [group.label for group in groups if group.pending]
        pending = self._client.ask(*(command("XPENDING", stream, label) for label in behind))
        if not groups or any(isinstance(reply, ResponseError) for reply in pending):
            return []
        oldest = [first for first in map(oldest_pending, pending) if first is not None]
        return [min([*oldest, *(group.delivered for group in groups)])]
