"""What one subscribing context reads: its consumer group on every stream of its sources."""

from collections.abc import Iterable, Sequence
from typing import Any

from outbox_inbox import signals
from outbox_inbox.contexts import Context

from ..base import ReceivedMessage
from .entries import Receipt, received
from .link import Link, ResponseError, command
from .streams import Streams

CONSUMER = "receiver"
"""One name for all who receive for a group, so that each finds what the one before it had.

There is one at a time: it has the lock of the context's intake partition.
"""
_NEW, _PENDING = b">", b"0"
_Found = dict[str, list[tuple[bytes, Sequence[bytes] | None]]]


class Reader:
    """Reads the entries of one consumer group, oldest first, pending ones before new ones."""

    def __init__(self, link: Link, streams: Streams, context: Context) -> None:
        self._link = link
        self._streams = streams
        self.context = context
        self._outstanding: set[Receipt] | None = None
        self._turn = 0
        self._seen: set[str] = set()

    def attach(self) -> None:
        """Begin as the only reader of the group: nobody knows what the one before had read."""
        context = self.context
        counts = self._link.get(*self._streams.counts(context))
        if self._streams.are_new(context, counts):
            self._streams.discover(context)
        if not self._seen.issuperset(self._streams.known(context)):
            self._make_groups()
        self._outstanding = None

    def _make_groups(self) -> None:
        """Create the group wherever there is none, from the first entry on."""
        names, label = self._streams.known(self.context), self.context.label
        answers = self._link.ask(
            *(command("XGROUP", "CREATE", name, label, "0", "MKSTREAM") for name in names)
        )
        for name, answer in zip(names, answers, strict=True):
            if not _is(answer, "BUSYGROUP"):
                self._link.check([answer])
                if name in self._seen:
                    self._report(
                        f"what was not read of {name}",
                        f"its group {label} is gone: the server has lost its data, or somebody "
                        "deleted it; a new one begins with what is there",
                    )
        self._seen.update(names)

    def read(self, limit: int) -> list[ReceivedMessage]:
        """Return up to ``limit`` messages; what was not acknowledged comes first, and again."""
        if self._outstanding is None or self._outstanding:
            pending = self._read_pending(limit)
            if pending:
                self._outstanding = None
                return pending
        messages = _messages(self._read(limit, _NEW))
        self._outstanding = {message.receipt for message in messages}
        return messages

    def acknowledge(self, messages: Iterable[ReceivedMessage]) -> None:
        """Take messages off the list of pending ones."""
        receipts = [message.receipt for message in messages]
        self._acknowledge(receipts)
        if self._outstanding is not None:
            self._outstanding.difference_update(receipts)

    def _read_pending(self, limit: int) -> list[ReceivedMessage]:
        """Return what was handed out before and not acknowledged, and is still there."""
        while True:
            found = self._read(limit, _PENDING)
            lost = [
                Receipt(stream, id_)
                for stream, entries in found.items()
                for id_, fields in entries
                if fields is None
            ]
            messages = _messages(found)
            for stream, id_ in lost:
                self._report(
                    f"entry {id_.decode()} of {stream}",
                    "it was deleted before it was stored: something else trims the stream",
                )
            if lost:
                self._acknowledge(lost)
            if messages or not lost:
                return messages

    def _read(self, limit: int, after: bytes) -> _Found:
        """Read from all streams; only where there are more than ``limit`` it takes several goes."""
        streams = self._streams.known(self.context)
        self._turn += 1
        start = self._turn % max(len(streams), 1)
        streams = streams[start:] + streams[:start]
        for begin in range(0, len(streams), limit):
            found = self._read_some(streams[begin : begin + limit], limit, after)
            if any(found.values()):
                return found
        return {}

    def _read_some(self, streams: Sequence[str], limit: int, after: bytes) -> _Found:
        """Give each stream its share of the limit, and what is left to those that have more."""
        share = limit // len(streams)
        found = self._group_read(share, dict.fromkeys(streams, after))
        left = limit - sum(map(len, found.values()))
        for stream in [name for name, entries in found.items() if len(entries) == share]:
            if left and len(streams) > 1:
                begin = after if after == _NEW else found[stream][-1][0]
                more = self._group_read(left, {stream: begin}).get(stream, [])
                found[stream] += more
                left -= len(more)
        return found

    def _group_read(self, count: int, after: dict[str, bytes]) -> _Found:
        reading = command(
            *("XREADGROUP", "GROUP", self.context.label, CONSUMER, "COUNT", str(count), "STREAMS"),
            *after,
            *after.values(),
        )
        (answer,) = self._link.ask(reading)
        if _is(answer, "NOGROUP"):
            # Somebody deleted a stream, or the server lost it: begin where it begins again.
            self._make_groups()
            (answer,) = self._link.ask(reading)
        self._link.check([answer])
        return {
            stream.decode(): [(id_, fields) for id_, fields in entries]
            for stream, entries in answer or ()
        }

    def _acknowledge(self, receipts: Iterable[Receipt]) -> None:
        ids: dict[str, list[bytes]] = {}
        for stream, id_ in receipts:
            ids.setdefault(stream, []).append(id_)
        label = self.context.label
        self._link.get(*(command("XACK", stream, label, *each) for stream, each in ids.items()))

    def _report(self, place: str, error: str) -> None:
        label = self.context.label
        signals.message_lost.send_robust(label, context=label, place=place, error=error)


def _messages(found: _Found) -> list[ReceivedMessage]:
    return [
        received(stream, id_, fields)
        for stream, entries in found.items()
        for id_, fields in entries
        if fields is not None
    ]


def _is(answer: Any, code: str) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith(code)
