"""``redis://`` and ``rediss://``: contracts as entries of Redis Streams.

One stream for each publishing context (and partition of its outbox), one consumer group for each
subscribing context. ``docs/transports.md`` describes the format and the configuration of the server.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Queue

from ..base import OutgoingMessage, Published, ReceivedMessage, Refusals, Transport
from . import entries, health
from .client import Client, ResponseError, command
from .group_reader import GroupReader
from .groups import groups_of, id_text
from .options import read_options
from .positions import PublishedPositions
from .stream_names import StreamNames
from .trimmer import Trimmer
from .waiter import Waiter

__all__ = ["RedisTransport"]

_ALWAYS_ACCEPTED = 1024 * 1024
"""Bytes that every Redis accepts in one piece: proto-max-bulk-len cannot be set to less."""
_ACCEPTED_BY_DEFAULT = 512 * 1024 * 1024
_PIECE = 100  # messages
_MULTI, _EXEC = command("MULTI"), command("EXEC")


class RedisTransport(Transport):
    """Carries contracts by Redis Streams: at least once, in order for each key.

    Raises:
        SettingsError: the URL or an option is wrong.
    """

    can_wait = True

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__(settings)
        self.options = read_options(settings.options)
        self.redelivers_for = max(self.options.max_age, self.options.keep)
        self._client = self._new_client()
        self._streams = StreamNames(self._client, self.options.prefix)
        self._trimmer = Trimmer(self._client, self._streams, self.users, self.options.keep)
        self._published = PublishedPositions(self._client)
        self._readers: dict[str, GroupReader] = {}
        self._of_thread = threading.local()

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """See `Transport.publish`; the reply to each `XADD` confirms one message.

        All messages are appended in one Redis transaction. In a plain pipeline the server continues
        after an entry that it refuses (out of memory, read-only for a moment of failover), and a
        later message of a key would arrive before an earlier one. A message that the server would
        refuse because of its own size is found before anything is sent.

        Raises:
            TransportUnavailable: the server cannot be reached, or refuses to write.
        """
        accepted, refused = self._split_by_size(messages)
        if accepted:
            stream = self._streams.name(source.label, accepted[0].partition)
            self._published.compare(source.label, stream)
            pieces = chain([_MULTI], self._pieces(source, accepted), [_EXEC])
            *queued, appended = self._client.ask_in_pieces(pieces, len(accepted) + 2)
            self._client.check(queued, stream)
            self._client.check([appended], stream)
            self._client.check(appended, stream)
            self._published.note(stream, appended)
        return Published(sent=[message.row for message in accepted], refused=refused)

    def recall(self, context: Context, queue: Queue, number: int, positions: str) -> None:
        if queue == Queue.INTAKE:
            self._reader(context).positions.recall(positions)
        else:
            stream = self._streams.name(context.label, number)
            self._published.recall(stream, positions)

    def positions(self, context: Context, queue: Queue, number: int) -> str | None:
        if queue == Queue.INTAKE:
            return self._reader(context).positions.text()
        return self._published.text(self._streams.name(context.label, number))

    def has_messages(self, context: Context) -> bool:
        names = self._streams.known(context)
        if not names:
            return bool(context.sources)  # none can be read, which is an outage
        replies = self._client.ask(
            *self._streams.count_commands(context),
            *(command("XINFO", "GROUPS", name) for name in names),
        )
        counts, groups = replies[: len(context.sources)], replies[len(context.sources) :]
        if self._streams.are_incomplete(context, counts) or self._streams.retries(context):
            return True
        return any(
            self._has_unread(context, name, reply)
            for name, reply in zip(names, groups, strict=True)
        )

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        self._reader(context).attach()
        yield

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        return self._reader(context).read_messages(limit)

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        self._reader(context).acknowledge(messages)
        self._trimmer.note_acknowledged(message.receipt.stream for message in messages)

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        """See `Transport.wait_for_messages`; a message that arrives between two calls ends the second."""
        return self._waiter().wait_for_entries(contexts, seconds)

    def local_problems(self) -> Iterator[str]:
        yield from self._client.local_problems()

    def problems(self) -> Iterator[str]:
        yield from health.problems(self._client, self._streams, self.users(), self.options)

    def _waiter(self) -> Waiter:
        # One for each thread: the wait blocks its connection, and an entry that one thread has
        # reported is new to another.
        if not hasattr(self._of_thread, "waiter"):
            self._of_thread.waiter = Waiter(self._new_client(), self._streams)
        found: Waiter = self._of_thread.waiter
        return found

    def _new_client(self) -> Client:
        return Client(self.settings.location, self.options)

    def _reader(self, context: Context) -> GroupReader:
        reader = self._readers.get(context.label)
        if reader is None or reader.context is not context:
            bound = self.bound(context.label)
            reader = GroupReader(self._client, self._streams, context, bound)
            self._readers[context.label] = reader
        return reader

    def _has_unread(self, context: Context, stream: str, reply: object) -> bool:
        """Return whether a stream has an entry for a context, or lacks the context's group."""
        group = next((each for each in groups_of(reply) if each.label == context.label), None)
        if group is None or group.pending:
            return True
        if group.lag is not None:
            return group.lag > 0
        # The server cannot count the unread entries after some were deleted from the middle.
        after = id_text(group.delivered)
        (found,) = self._client.ask_strictly(command("XREAD", "COUNT", 1, "STREAMS", stream, after))
        return bool(found)

    def _pieces(self, source: Context, messages: Sequence[OutgoingMessage]) -> Iterator[bytes]:
        """Yield the commands in pieces, so that the server works on one while the next is made."""
        for start in range(0, len(messages), _PIECE):
            yield "".join(
                entries.append_command(
                    self._streams.name(source.label, each.partition), source, each
                )
                for each in messages[start : start + _PIECE]
            ).encode()

    def _split_by_size(
        self, messages: Sequence[OutgoingMessage]
    ) -> tuple[Sequence[OutgoingMessage], dict[int, MessageRefused]]:
        """Return the messages to be sent, and the refused ones; neither has those that they block."""
        largest = max((_size(message.data) for message in messages), default=0)
        limit = self._size_limit(largest)
        if largest <= limit:
            return messages, {}
        accepted: list[OutgoingMessage] = []
        refusals = Refusals()
        for message in messages:
            size = _size(message.data)
            if refusals.blocks(message):
                continue
            if size <= limit:
                accepted.append(message)
            else:
                why = f"its payload has {size:,} bytes, and Redis accepts {limit:,} (MAX_ENTRY, "
                refusals.add(message, MessageRefused(f"{why}proto-max-bulk-len)"))
        return accepted, refusals.by_row

    def _size_limit(self, largest: int) -> int:
        """Return how many bytes a payload may have; ask the server only if it matters."""
        own = self.options.max_entry or _ACCEPTED_BY_DEFAULT
        if min(largest, own) <= _ALWAYS_ACCEPTED:
            return own
        (reply,) = self._client.ask(command("CONFIG", "GET", "proto-max-bulk-len"))
        if isinstance(reply, ResponseError) or not reply:  # many hosted servers forbid CONFIG
            return own
        return min(own, int(reply[1]))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
