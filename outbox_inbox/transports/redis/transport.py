"""The transport itself: what each of its methods says to the server."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from outbox_inbox.conf import TransportSettings, settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import MessageRefused

from ..base import OutgoingMessage, Published, ReceivedMessage, Transport
from . import entries, health
from .groups import Group, groups_of, shown_id
from .link import Link, ResponseError, command
from .options import read_options
from .reader import Reader
from .streams import Streams
from .trimming import Trimmer
from .waiter import Waiter

_ALWAYS_TAKEN = 1024 * 1024
"""Bytes that every Redis takes in one piece: proto-max-bulk-len cannot be set to less."""
_USUALLY_TAKEN = 512 * 1024 * 1024
_PIECE = 100  # messages
_MULTI, _EXEC = command("MULTI"), command("EXEC")


class RedisTransport(Transport):
    """Carries contracts by Redis Streams: at least once, in order for each key.

    Raises:
        SettingsError: the URL or an option is wrong.
    """

    can_wait = True

    def __init__(self, own: TransportSettings) -> None:
        super().__init__(own)
        self.options = read_options(own.options)
        self.redelivers_for = self.options.max_age
        self._link = Link(own.location)
        self._streams = Streams(self._link, self.options.prefix)
        self._trimmer = Trimmer(self._link, self._streams, self._users)
        self._readers: dict[str, Reader] = {}
        self._waiting = threading.local()

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; the answer to each `XADD` is the confirmation of one message.

        All are sent in one transaction. In a mere pipeline the server goes on after an entry that
        it refuses (out of memory, read-only for a moment of failover), and a later message of a
        key would be there before an earlier one. What it would refuse because of the message, its
        size, is found out before anything is sent.

        Raises:
            TransportUnavailable: the server cannot be reached, or refuses to write.
        """
        taken, refused = self._sift(messages)
        if taken:
            self._append(source, taken)
        return Published(sent=[message.row for message in taken], refused=refused)

    def has_messages(self, context: Context) -> bool:
        """See `Transport.has_messages`."""
        names = self._streams.known(context)
        if not names:
            return False
        asked = self._link.ask(
            *self._streams.counts(context), *(command("XINFO", "GROUPS", name) for name in names)
        )
        counts, told = asked[: -len(names)], asked[-len(names) :]
        self._link.check(counts)
        if self._streams.are_new(context, counts):
            return True
        return any(
            self._has_unread(context, name, answer)
            for name, answer in zip(names, told, strict=True)
        )

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        """See `Transport.attached`."""
        self._reader(context).attach()
        yield

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """See `Transport.receive`."""
        return self._reader(context).read(limit)

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """See `Transport.acknowledge`."""
        self._reader(context).acknowledge(messages)
        self._trimmer.acknowledged(message.receipt.stream for message in messages)

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        """See `Transport.wait_for_messages`; what comes between two calls counts for the second."""
        return self._waiter().wait(contexts, seconds)

    def problems(self) -> Iterator[str]:
        """See `Transport.problems`."""
        yield from health.problems(self._link, self._streams, self._users(), self.options)

    def _users(self) -> list[Context]:
        """Return the contexts of this project that use this transport."""
        transports = settings().transports
        return [each for each in contexts() if transports[each.transport] is self.settings]

    def _waiter(self) -> Waiter:
        # Each thread that waits has its own, with a connection of its own: it blocks there, and
        # what one was told of is news to another.
        if not hasattr(self._waiting, "waiter"):
            self._waiting.waiter = Waiter(Link(self.settings.location), self._streams)
        found: Waiter = self._waiting.waiter
        return found

    def _reader(self, context: Context) -> Reader:
        reader = self._readers.get(context.label)
        if reader is None or reader.context is not context:
            reader = self._readers[context.label] = Reader(self._link, self._streams, context)
        return reader

    def _has_unread(self, context: Context, stream: str, answer: object) -> bool:
        """Tell whether a stream has something for a context, or lacks its group."""
        for group in groups_of(answer):
            if group.label == context.label:
                return bool(group.pending) or self._is_behind(stream, group)
        return True

    def _is_behind(self, stream: str, group: Group) -> bool:
        if group.lag is not None:
            return group.lag > 0
        # The server cannot count what is left when entries were deleted from the middle.
        after = shown_id(group.delivered)
        (found,) = self._link.get(command("XREAD", "COUNT", 1, "STREAMS", stream, after))
        return bool(found)

    def _append(self, source: Context, messages: Sequence[OutgoingMessage]) -> None:
        """Append all messages to their streams, or none."""
        pieces = chain([_MULTI], self._pieces(source, messages), [_EXEC])
        *queued, appended = self._link.send(pieces, len(messages) + 2)
        self._link.check(queued)
        self._link.check([appended])
        self._link.check(appended)

    def _pieces(self, source: Context, messages: Sequence[OutgoingMessage]) -> Iterator[bytes]:
        """Yield the commands in pieces, so that the server works on one while we make the next."""
        for start in range(0, len(messages), _PIECE):
            yield "".join(
                entries.append(self._streams.name(source.label, each.partition), source, each)
                for each in messages[start : start + _PIECE]
            ).encode()

    def _sift(
        self, messages: Sequence[OutgoingMessage]
    ) -> tuple[Sequence[OutgoingMessage], dict[int, MessageRefused]]:
        """Part what can be sent from what is too large, and leave out what follows that."""
        largest = max((_size(message.data) for message in messages), default=0)
        limit = self._limit(largest)
        if largest <= limit:
            return messages, {}
        taken: list[OutgoingMessage] = []
        refused: dict[int, MessageRefused] = {}
        stuck: set[str | None] = set()
        for message in messages:
            size = _size(message.data)
            if message.key is not None and message.key in stuck:
                continue
            if size <= limit:
                taken.append(message)
                continue
            stuck.add(message.key)
            refused[message.row] = MessageRefused(
                f"its payload has {size:,} bytes, and Redis takes {limit:,} (MAX_ENTRY, "
                "proto-max-bulk-len)"
            )
        return taken, refused

    def _limit(self, largest: int) -> int:
        """Return how large a payload may be; asks the server only if it matters."""
        own = self.options.max_entry or _USUALLY_TAKEN
        if min(largest, own) <= _ALWAYS_TAKEN:
            return own
        (answer,) = self._link.ask(command("CONFIG", "GET", "proto-max-bulk-len"))
        if isinstance(answer, ResponseError) or not answer:  # not everybody may ask
            return own
        return min(own, int(answer[1]))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
