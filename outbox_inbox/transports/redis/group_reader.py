"""Reads the messages of one subscribing context: its consumer group on every stream of its sources."""

from collections.abc import Iterable, Sequence
from typing import Any

from outbox_inbox import signals
from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import TransportUnavailable

from ..base import ReceivedMessage
from ..batch_bound import BatchBound
from .client import Client, ResponseError, command
from .entries import Receipt, received_message
from .stream_names import StreamNames

GROUP_MEMBER = "receiver"
"""The name that every receiver of a group uses (Redis calls it a consumer).

Redis keeps the pending entries of each name apart. With one name for all, a receiver finds what a
crashed one had read. Only one is active at a time: it holds the lock of the context's intake
partition.
"""
_ATTRIBUTES = 500  # bytes of an entry beside its payload and headers, more or less
_Entries = dict[str, list[tuple[bytes, Sequence[bytes] | None]]]


class GroupReader:
    """Reads the entries of one consumer group, oldest first, pending ones before new ones.

    Redis does not say how large entries are before it sends them. So the reader asks for as many as fit
    into the bound by the size of those that came last, and before any came, by the largest size.
    """

    def __init__(
        self, client: Client, streams: StreamNames, context: Context, bound: BatchBound
    ) -> None:
        self._client = client
        self._streams = streams
        self.context = context
        self._bound = bound
        self._usual_size = settings().max_payload
        self._outstanding: set[Receipt] | None = None
        self._turn = 0
        self._grouped: set[str] = set()

    def attach(self) -> None:
        """Begin as the only reader of the group."""
        context = self.context
        counts = self._client.ask_strictly(*self._streams.count_commands(context))
        if self._streams.are_incomplete(context, counts):
            self._streams.discover_streams(context)
        if not self._grouped.issuperset(self._streams.known(context)):
            self._create_groups()
        # Another process may have read since: what it left pending is unknown, and comes first.
        self._outstanding = None

    def _create_groups(self) -> None:
        """Create the group on every stream that lacks it, from the first entry on."""
        names, label = self._streams.known(self.context), self.context.label
        replies = self._client.ask(
            *(command("XGROUP", "CREATE", name, label, "0", "MKSTREAM") for name in names)
        )
        for name, reply in zip(names, replies, strict=True):
            if not _is_error(reply, "BUSYGROUP"):
                self._client.check([reply])
                if name in self._grouped:
                    self._report_lost(
                        f"what was not read of {name}",
                        f"its group {label} is gone: the server lost its data, or the group was "
                        "deleted; a new group begins with the entries that are left",
                    )
        self._grouped.update(names)

    def read_messages(self, limit: int) -> list[ReceivedMessage]:
        """Return up to ``limit`` messages; those that were not acknowledged come first, and again."""
        # New entries while older ones are pending would overtake them (rule O4).
        if self._outstanding is None or self._outstanding:
            self._outstanding = None
            pending = self._read_pending(self._fitting(limit))
            if pending:
                self._note_size(pending)
                return pending
        return self._read_new(limit)

    def _read_new(self, limit: int) -> list[ReceivedMessage]:
        """Return new messages, read in pieces until the limit or the bound is reached."""
        messages: list[ReceivedMessage] = []
        left, wanted = self._bound.max_bytes, self._fitting(limit)
        while wanted:
            try:
                piece = _messages(self._read_entries(wanted, b">"))
            except TransportUnavailable:
                # The server may have handed out entries that did not arrive: they are pending now.
                self._outstanding = None
                if not messages:
                    raise
                self._bound.halve()
                return messages
            messages += piece
            left -= self._note_size(piece)
            room = min(limit - len(messages), left // self._usual_size)
            wanted = max(0, room) if len(piece) == wanted else 0
        self._outstanding = {message.receipt for message in messages}
        return messages

    def _fitting(self, limit: int) -> int:
        return min(limit, max(1, self._bound.max_bytes // self._usual_size))

    def _note_size(self, messages: Sequence[ReceivedMessage]) -> int:
        """Remember the mean size of messages; return their bytes."""
        size = sum(
            len(message.data) + len(message.attributes.get("headers", "")) + _ATTRIBUTES
            for message in messages
        )
        if messages:
            self._usual_size = size // len(messages)
        return size

    def acknowledge(self, messages: Iterable[ReceivedMessage]) -> None:
        """Remove messages from the pending ones."""
        receipts = [message.receipt for message in messages]
        self._acknowledge_receipts(receipts)
        if self._outstanding is not None:
            self._outstanding.difference_update(receipts)

    def _read_pending(self, limit: int) -> list[ReceivedMessage]:
        """Return entries that were handed out and not acknowledged, and report those deleted since."""
        while True:
            found = self._read_entries(limit, b"0")
            lost = [
                Receipt(stream, id_)
                for stream, entries in found.items()
                for id_, fields in entries
                if fields is None
            ]
            messages = _messages(found)
            for stream, id_ in lost:
                self._report_lost(
                    f"entry {id_.decode()} of {stream}",
                    "it was deleted before it was stored: another program trims the stream",
                )
            if lost:
                self._acknowledge_receipts(lost)
            if messages or not lost:
                return messages

    def _read_entries(self, limit: int, after: bytes) -> _Entries:
        """Read from all streams, in several steps if there are more streams than ``limit``.

        After ``>`` are the new entries, after ``0`` those that are pending.
        """
        streams = self._streams.known(self.context)
        # A busy stream at the beginning of the list would starve the others.
        self._turn += 1
        start = self._turn % max(len(streams), 1)
        streams = streams[start:] + streams[:start]
        for begin in range(0, len(streams), limit):
            found = self._read_fairly(streams[begin : begin + limit], limit, after)
            if any(found.values()):
                return found
        return {}

    def _read_fairly(self, streams: Sequence[str], limit: int, after: bytes) -> _Entries:
        """Read an equal share of the limit from each stream, then fill up from those with more."""
        share = limit // len(streams)
        found = self._read_group(share, dict.fromkeys(streams, after))
        left = limit - sum(map(len, found.values()))
        for stream in [name for name, entries in found.items() if len(entries) == share]:
            if left and len(streams) > 1:
                begin = after if after == b">" else found[stream][-1][0]
                more = self._read_group(left, {stream: begin}).get(stream, [])
                found[stream] += more
                left -= len(more)
        return found

    def _read_group(self, count: int, after: dict[str, bytes]) -> _Entries:
        reading = command(
            *("XREADGROUP", "GROUP", self.context.label, GROUP_MEMBER),
            *("COUNT", str(count), "STREAMS"),
            *after,
            *after.values(),
        )
        (reply,) = self._ask_for_entries(reading)
        if _is_error(reply, "NOGROUP"):
            # The stream or the group was deleted, or the server lost its data.
            self._create_groups()
            (reply,) = self._ask_for_entries(reading)
        self._client.check([reply])
        return {
            stream.decode(): [(id_, fields) for id_, fields in entries]
            for stream, entries in reply or ()
        }

    def _ask_for_entries(self, reading: bytes) -> list[Any]:
        try:
            return self._client.ask(reading)
        except TransportUnavailable:
            # They may be larger than those before: with the same number it would be late again.
            self._usual_size = settings().max_payload
            raise

    def _acknowledge_receipts(self, receipts: Iterable[Receipt]) -> None:
        ids: dict[str, list[bytes]] = {}
        for stream, id_ in receipts:
            ids.setdefault(stream, []).append(id_)
        label = self.context.label
        self._client.ask_strictly(
            *(command("XACK", stream, label, *each) for stream, each in ids.items())
        )

    def _report_lost(self, place: str, error: str) -> None:
        label = self.context.label
        signals.message_lost.send_robust(label, context=label, place=place, error=error)


def _messages(found: _Entries) -> list[ReceivedMessage]:
    return [
        received_message(stream, id_, fields)
        for stream, entries in found.items()
        for id_, fields in entries
        if fields is not None
    ]


def _is_error(reply: Any, code: str) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith(code)
