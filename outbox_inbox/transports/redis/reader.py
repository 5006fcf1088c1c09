"""What one subscribing context reads: its consumer group on every stream of its sources."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from outbox_inbox import signals
from outbox_inbox.contexts import Context

from ..base import ReceivedMessage
from .entries import Receipt, received
from .link import Link, ResponseError, command
from .streams import Streams

logger = logging.getLogger("outbox_inbox.transports.redis")

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

    def attach(self) -> None:
        """Begin as the only reader of the group: nobody knows what the one before had read."""
        context = self.context
        counts = self._link.get(*self._streams.counts(context))
        if self._streams.are_new(context, counts):
            self._streams.discover(context)
        self.make_groups()
        self._outstanding = None

    def make_groups(self) -> None:
        """Create the group wherever there is none, from the first entry on."""
        answers = self._link.ask(
            *(
                command("XGROUP", "CREATE", name, self.context.label, "0", "MKSTREAM")
                for name in self._streams.known(self.context)
            )
        )
        self._link.check([each for each in answers if not _is(each, "BUSYGROUP")])

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
            if lost:
                self._report(lost)
                self._acknowledge(lost)
            if messages or not lost:
                return messages

    def _read(self, limit: int, after: bytes) -> _Found:
        """Read from all streams; only where there are more than ``limit`` it takes several goes."""
        streams = self._streams.known(self.context)
        self._turn += 1
        start = self._turn % len(streams)
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
            logger.warning("%s: %s; it is created again", self.context.label, answer)
            self.make_groups()
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

    def _report(self, lost: Sequence[Receipt]) -> None:
        for stream, id_ in lost:
            signals.message_lost.send_robust(
                self.context.label,
                context=self.context.label,
                place=f"entry {id_.decode()} of {stream}",
                error="it was deleted from the stream after it was handed out and before it was "
                "stored: something else than this app trims the stream",
            )


def _messages(found: _Found) -> list[ReceivedMessage]:
    return [
        received(stream, id_, fields)
        for stream, entries in found.items()
        for id_, fields in entries
        if fields is not None
    ]


def _is(answer: Any, code: str) -> bool:
    return isinstance(answer, ResponseError) and str(answer).startswith(code)
