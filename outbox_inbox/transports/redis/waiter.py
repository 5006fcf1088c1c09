"""Waits until messages arrive, on a connection of its own, which blocks meanwhile.

What it has reported once it does not report again. A message that stays, since its partition is paused,
would otherwise end every pause at once and keep the process busy.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outbox_inbox.contexts import Context

from .groups import Id, groups_of, parse_id, shown_id
from .link import Link, ResponseError, command
from .streams import Streams

_FIRST: Id = (0, 0)


class Waiter:
    """Blocks on all streams of some contexts, from where their consumer groups have read to."""

    def __init__(self, link: Link, streams: Streams) -> None:
        self._link = link
        self._streams = streams
        self._reported: dict[str, Id] = {}

    def wait(self, contexts: Iterable[Context], seconds: float) -> bool:
        """Wait; return whether something may have arrived that was not reported before.

        What arrives between two calls is reported by the second.
        """
        groups: dict[str, list[str]] = {}
        for context in contexts:
            for stream in self._streams.known(context):
                groups.setdefault(stream, []).append(context.label)
        if not groups:
            threading.Event().wait(seconds)
            return False
        begin = self._begin(groups)
        milliseconds = max(1, int(seconds * 1000))  # 0 means for ever
        reading = command(
            *("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS"), *begin, *begin.values()
        )
        (answer,) = self._link.ask(reading, wait=seconds)
        self._link.check([answer])
        if not answer:
            return False
        self._note_reported([stream.decode() for stream, _ in answer])
        return True

    def _begin(self, groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return for each stream the id after which no message was read or reported yet."""
        reported = list(self._reported)
        answers = self._link.ask(
            *(command("XINFO", "GROUPS", stream) for stream in groups), *map(_last, reported)
        )
        for stream, last in zip(reported, answers[len(groups) :], strict=True):
            # A stream that was lost begins anew, maybe with smaller ids: they would never be reported.
            if not last or isinstance(last, ResponseError) or _id(last) < self._reported[stream]:
                del self._reported[stream]
        begin: dict[str, str] = {}
        for (stream, labels), answer in zip(groups.items(), answers, strict=False):
            delivered = _delivered(answer)
            least = min(delivered.get(label, _FIRST) for label in labels)
            begin[stream] = shown_id(max(least, self._reported.get(stream, _FIRST)))
        return begin

    def _note_reported(self, streams: Sequence[str]) -> None:
        """Note that all that is there now is reported: the receiver that wakes up reads all of it."""
        for stream, last in zip(streams, self._link.get(*map(_last, streams)), strict=True):
            if last:
                self._reported[stream] = _id(last)


def _last(stream: str) -> bytes:
    return command("XREVRANGE", stream, "+", "-", "COUNT", 1)


def _id(answer: Any) -> Id:
    return parse_id(answer[0][0])


def _delivered(answer: Any) -> dict[str, Id]:
    return {group.label: group.delivered for group in groups_of(answer)}
