"""How far the streams were read and published to, as the database of each side remembers it.

A server that came back with less than it had confirmed, or a database that was replaced by an older
copy, does not say so. It is found out by comparing the two.
"""

import json
import re
from collections.abc import Iterable, Mapping

from outbox_inbox import signals

from .client import Client, ResponseError, command
from .entries import Receipt
from .groups import Id, id_text, parse_id

_ID = re.compile(r"\d+-\d+")


class Positions:
    """The last entry of each stream that is known on this side: that was stored, or published."""

    def __init__(self) -> None:
        self._last: dict[str, Id] = {}

    def recall(self, text: str) -> None:
        """Take what the database remembers; what another process has done since is in it."""
        found = json.loads(text) if text else {}
        for stream, last in found.items() if isinstance(found, dict) else ():
            if _ID.fullmatch(str(last)):  # the text may be that of another transport
                self._last[stream] = parse_id(last.encode())

    def text(self) -> str:
        """Return what the database is to remember."""
        return json.dumps({stream: id_text(last) for stream, last in sorted(self._last.items())})

    def note(self, stream: str, last: Id) -> None:
        """Note that everything up to an entry is known."""
        self._last[stream] = max(last, self._last.get(stream, (0, 0)))

    def note_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Note entries that were stored, and before which nothing is left."""
        for stream, id_ in receipts:
            self.note(stream, parse_id(id_))

    def reset(self, stream: str) -> None:
        """Begin a stream again."""
        self._last[stream] = (0, 0)

    def of(self, stream: str) -> Id | None:
        """Return how far a stream is known; None: this side has nothing of it."""
        return self._last.get(stream)


class PublishedPositions:
    """The last entry that each outbox partition of this project has published."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._by_stream: dict[str, Positions] = {}
        self._uncompared: set[str] = set()
        self._told: dict[str, Id] = {}

    def recall(self, stream: str, text: str) -> None:
        """Take what the database remembers of a stream, at the begin of a run."""
        self._by_stream.setdefault(stream, Positions()).recall(text)
        self._uncompared.add(stream)

    def compare(self, label: str, stream: str) -> None:
        """Compare it with what the server has, once a run and before the first entry is appended.

        Raises:
            TransportUnavailable: the server cannot be reached.
        """
        mine = self._by_stream.get(stream)
        last = None if mine is None else mine.of(stream)
        if stream not in self._uncompared or last is None:
            return
        (reply,) = self._client.ask(command("XINFO", "STREAM", stream))
        self._uncompared.discard(stream)
        there = _last_generated(reply)
        if there is None or there >= last or self._told.get(stream) == last:
            return
        self._told[stream] = last
        signals.message_lost.send_robust(
            label,
            context=label,
            place=f"what was published to {stream} after {id_text(there)}",
            error=f"the server had confirmed entries up to {id_text(last)}, and has lost them: it "
            "was restored from an older copy, or a replica that was behind has taken its place",
        )

    def note(self, stream: str, ids: Iterable[bytes]) -> None:
        """Note what the server has confirmed."""
        mine = self._by_stream.setdefault(stream, Positions())
        for id_ in ids:
            mine.note(stream, parse_id(id_))

    def text(self, stream: str) -> str | None:
        """Return what the database is to remember of a stream; None: nothing new."""
        mine = self._by_stream.get(stream)
        return None if mine is None or mine.of(stream) is None else mine.text()


def _last_generated(reply: object) -> Id | None:
    """Return the last id that a stream has ever had; None if the server does not say."""
    if isinstance(reply, ResponseError):
        return (0, 0) if "no such key" in str(reply) else None
    info: Mapping[bytes, bytes] = dict(zip(reply[::2], reply[1::2], strict=True))  # type: ignore[index]
    return parse_id(info[b"last-generated-id"])
