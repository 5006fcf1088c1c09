"""The transport itself: what each of its methods says to the server."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused

from ..base import OutgoingMessage, Published, ReceivedMessage, Transport
from . import entries, inspecting
from .groups import Group, groups_of, shown_id
from .link import Link, ResponseError, command
from .options import read_options
from .reader import Reader
from .streams import Streams
from .trimming import Trimmer
from .waiting import Waiter

_ALWAYS_TAKEN = 1024 * 1024
"""Bytes that every Redis takes in one piece: proto-max-bulk-len cannot be set to less."""
_USUALLY_TAKEN = 512 * 1024 * 1024


class RedisTransport(Transport):
    """Carries contracts by Redis Streams: at least once, in order for each key.

    Raises:
        SettingsError: the URL or an option is wrong.
    """

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self.options = read_options(settings.options)
        self.redelivers_for = self.options.max_age
        self._link = Link(settings.location)
        self._streams = Streams(self._link, self.options.prefix)
        self._trimmer = Trimmer(self._link)
        self._readers: dict[str, Reader] = {}

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; the answer to each `XADD` is the confirmation of one message.

        In a pipeline the server goes on after an entry that it refuses. So what it would refuse
        because of the message, its size, is found out before, and whatever else it refuses is an
        outage: all is published again.

        Raises:
            TransportUnavailable: the server cannot be reached, or refuses to write.
        """
        taken, refused = self._sift(messages)
        appending = [
            entries.append(
                self._streams.name(source.label, message.partition), source, message, data
            )
            for message, data in taken
        ]
        if appending:
            self._link.get(*appending)
        return Published(sent=[message.row for message, _ in taken], refused=refused)

    def has_messages(self, context: Context) -> bool:
        """See `Transport.has_messages`."""
        names = self._streams.known(context)
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

    def wait_for_messages(self, contexts: Iterable[Context], seconds: float) -> bool:
        """Wait until something may have arrived for one of these contexts.

        Arguments:
            seconds: how long to wait at most.

        Returns:
            Whether something may have arrived; what does between two calls counts for the second.

        Raises:
            TransportUnavailable: the server cannot be reached.
        """
        return self._waiter.wait(contexts, seconds)

    def problems(self) -> Iterator[str]:
        """See `Transport.problems`."""
        yield from inspecting.problems(self._link, self._streams, self.settings, self.options)

    @cached_property
    def _waiter(self) -> Waiter:
        # On a connection of its own, since it blocks: others must not wait behind it.
        return Waiter(Link(self.settings.location), self._streams)

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

    def _sift(
        self, messages: Sequence[OutgoingMessage]
    ) -> tuple[list[tuple[OutgoingMessage, bytes]], dict[int, MessageRefused]]:
        """Part what can be sent from what is too large, and leave out what follows that."""
        all_data = [message.data.encode() for message in messages]
        limit = self._limit(max(map(len, all_data), default=0))
        taken: list[tuple[OutgoingMessage, bytes]] = []
        refused: dict[int, MessageRefused] = {}
        stuck: set[str] = set()
        for message, data in zip(messages, all_data, strict=True):
            if message.key is not None and message.key in stuck:
                continue
            if len(data) <= limit:
                taken.append((message, data))
                continue
            refused[message.row] = MessageRefused(
                f"its payload has {len(data):,} bytes, and Redis takes {limit:,} (MAX_ENTRY, "
                "proto-max-bulk-len)"
            )
            if message.key is not None:
                stuck.add(message.key)
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
