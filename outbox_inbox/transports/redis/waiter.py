"""Waits until something arrives, on a connection of its own: it blocks there."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outbox_inbox.contexts import Context

from .groups import Id, groups_of, parse_id, shown_id
from .link import Link, ResponseError, command
from .streams import Streams

_FIRST: Id = (0, 0)


class Waiter:
    """Blocks on all streams of some contexts, beginning where their groups have read to."""

    def __init__(self, link: Link, streams: Streams) -> None:
        self._link = link
        self._streams = streams
        self._told: dict[str, Id] = {}

    def wait(self, contexts: Iterable[Context], seconds: float) -> bool:
        """Wait; true: something may have arrived that was not told of before.

        What arrives between two calls is told of by the second.
        """
        groups: dict[str, list[str]] = {}
        for context in contexts:
            for stream in self._streams.known(context):
                groups.setdefault(stream, []).append(context.label)
        if not groups:
            threading.Event().wait(seconds)
            return False
        begin = self._begin(groups)
        milliseconds = max(1, int(seconds * 1000))  # 0 would be for ever
        reading = command(
            *("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS"), *begin, *begin.values()
        )
        (answer,) = self._link.ask(reading, wait=seconds)
        self._link.check([answer])
        if not answer:
            return False
        self._tell([stream.decode() for stream, _ in answer])
        return True

    def _begin(self, groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Return for each stream the id after which nobody has heard of anything yet."""
        told = list(self._told)
        answers = self._link.ask(
            *(command("XINFO", "GROUPS", stream) for stream in groups), *map(_last, told)
        )
        for stream, last in zip(told, answers[len(groups) :], strict=True):
            # A stream that was lost begins anew, maybe with smaller ids.
            if not last or isinstance(last, ResponseError) or _id(last) < self._told[stream]:
                del self._told[stream]
        begin: dict[str, str] = {}
        for (stream, labels), answer in zip(groups.items(), answers, strict=False):
            delivered = _delivered(answer)
            least = min(delivered.get(label, _FIRST) for label in labels)
            begin[stream] = shown_id(max(least, self._told.get(stream, _FIRST)))
        return begin

    def _tell(self, streams: Sequence[str]) -> None:
        """Remember all that is there now as told: who was woken reads until nothing is left."""
        for stream, last in zip(streams, self._link.get(*map(_last, streams)), strict=True):
            if last:
                self._told[stream] = _id(last)


def _last(stream: str) -> bytes:
    return command("XREVRANGE", stream, "+", "-", "COUNT", 1)


def _id(answer: Any) -> Id:
    return parse_id(answer[0][0])


def _delivered(answer: Any) -> dict[str, Id]:
    return {group.label: group.delivered for group in groups_of(answer)}
