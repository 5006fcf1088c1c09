"""Waits until a message arrives, on a connection of its own, since the wait blocks it."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outbox_inbox.contexts import Context

from .client import Client, ResponseError, command
from .groups import Id, groups_of, id_text, parse_id
from .stream_names import StreamNames

_FIRST: Id = (0, 0)


class Waiter:
    """Blocks on all streams of some contexts, from where their groups have read to."""

    def __init__(self, client: Client, streams: StreamNames) -> None:
        self._client = client
        self._streams = streams
        self._reported: dict[str, Id] = {}

    def wait_for_entries(self, contexts: Iterable[Context], seconds: float) -> bool:
        """Wait; return whether an entry may have arrived that was not reported before.

        An entry that arrives between two calls is reported by the second.
        """
        groups: dict[str, list[str]] = {}
        for context in contexts:
            for stream in self._streams.known(context):
                groups.setdefault(stream, []).append(context.label)
        if not groups:
            threading.Event().wait(seconds)
            return False
        begin = self._start_ids(groups)
        milliseconds = max(1, int(seconds * 1000))  # 0 would mean without end
        reading = command(
            *("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS"), *begin, *begin.values()
        )
        (reply,) = self._client.ask(reading, wait=seconds)
        self._client.check([reply])
        if not reply:
            return False
        self._mark_reported([stream.decode() for stream, _ in reply])
        return True

    def _start_ids(self, groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return for each stream the id after which no entry was read or reported yet."""
        reported = list(self._reported)
        replies = self._client.ask(
            *(command("XINFO", "GROUPS", stream) for stream in groups),
            *map(_last_command, reported),
        )
        for stream, last in zip(reported, replies[len(groups) :], strict=True):
            # A stream that was lost begins again, possibly with smaller ids: with the old one, its
            # messages would not end the wait.
            lost = not last or isinstance(last, ResponseError)
            if lost or _entry_id(last) < self._reported[stream]:
                del self._reported[stream]
        begin: dict[str, str] = {}
        for (stream, labels), reply in zip(groups.items(), replies, strict=False):
            delivered = {group.label: group.delivered for group in groups_of(reply)}
            least = min(delivered.get(label, _FIRST) for label in labels)
            begin[stream] = id_text(max(least, self._reported.get(stream, _FIRST)))
        return begin

    def _mark_reported(self, streams: Sequence[str]) -> None:
        """Count all current entries as reported: the receiver reads until nothing is left."""
        replies = self._client.ask_strictly(*map(_last_command, streams))
        for stream, last in zip(streams, replies, strict=True):
            if last:
                self._reported[stream] = _entry_id(last)


def _last_command(stream: str) -> bytes:
    return command("XREVRANGE", stream, "+", "-", "COUNT", 1)


def _entry_id(reply: Any) -> Id:
    return parse_id(reply[0][0])
