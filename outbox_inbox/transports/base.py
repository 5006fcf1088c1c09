"""The contract between a transport and the relay and receiver that call it.

An author of a transport needs this module and nothing else of the package: it says when each method
is called, in which transaction, whether it may be called twice, and what it may raise.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from uuid import UUID

from outbox_inbox.conf import TransportSettings, settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable

from .batch_bound import BatchBound

if TYPE_CHECKING:  # a project may import this module before its models are loaded
    from outbox_inbox.models import Queue


class OutgoingMessage(NamedTuple):
    """An integration event that the relay publishes.

    A named tuple takes a third of the time of a dataclass to make, and the relay makes one for every
    message.

    Fields:
        row: the id of its outbox row, or its position in the stream; unique within one batch only.
        id: the message id, the same at every redelivery.
        type, version: name and version of the contract.
        key: messages of one key are ordered; None has no order.
        key_hash: the hash from which partitions are computed.
        partition: of the outbox; the same for all messages of a key, and for all of a batch.
        time: when it was recorded, aware.
        correlation_id, causation_id, hops: its place in the conversation.
        headers, data: JSON text, to be carried byte for byte; empty for a transport with
            ``needs_text = False``.
        stored: ``row`` is a position in the stream; the same for all messages of a batch.
    """

    row: int
    id: UUID
    type: str
    version: int
    key: str | None
    key_hash: int
    partition: int
    time: datetime
    correlation_id: UUID
    causation_id: UUID | None
    hops: int
    headers: str
    data: str
    stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message as a transport returns it; the receiver parses and checks all of it.

    Fields:
        receipt: whatever the transport needs to acknowledge it.
        attributes: the CloudEvents attributes by name, without the prefix of the protocol; see
            `wire`.
        data: the bytes of the payload.
    """

    receipt: Any
    attributes: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The result of publishing a batch.

    Fields:
        sent: rows of the messages that the other side has confirmed.
        refused: row -> why the transport does not take this message.
        outage: what ended the publication before every message was confirmed; None (default): it
            was not cut short.
    A message that is in neither was not sent, because an earlier one of its key was refused. After an
    outage it may also be that its confirmation is missing. The relay then counts what was confirmed
    up to the first such message, and publishes that one and all behind it again.
    """

    sent: Sequence[int]
    refused: Mapping[int, MessageRefused] = field(default_factory=dict)
    outage: TransportUnavailable | None = None


class Refusals:
    """The refused messages of one batch, and the keys that they block (rule O3).

    Attributes:
        by_row: as `Published` takes it.
    """

    def __init__(self) -> None:
        self.by_row: dict[int, MessageRefused] = {}
        self._keys: set[str] = set()

    def add(self, message: OutgoingMessage, error: MessageRefused) -> None:
        """Refuse a message; the later ones of its key must not be sent."""
        self.by_row[message.row] = error
        if message.key is not None:
            self._keys.add(message.key)

    def blocks(self, message: OutgoingMessage) -> bool:
        """Return whether an earlier message of the same key was refused."""
        return message.key in self._keys


class Transport(ABC):
    """Carries contracts from the context that publishes them to the contexts that subscribe.

    One instance exists for each alias in a thread. That thread alone uses it, except for
    `wait_for_messages`, which runs in a thread of its own beside the other methods. The partition
    locks admit one process at a time: to `publish` for each partition of an outbox, and to
    `attached`, `receive` and `acknowledge` for each context. No method is called in the transaction
    of a use case.

    `TransportUnavailable` means an outage: the partition backs off and no attempt is counted. Every
    method may raise it, for everything that the next message would meet as well (no connection, no
    permission, a full disk). An `OSError` or `ImproperlyConfigured` from `publish` counts as one, too.
    Any other exception from `publish` counts as a failed attempt of a message; any other
    exception from the receiving methods ends the receiver's run and is logged.

    Arguments:
        settings: the entry of TRANSPORTS. Refuse a wrong LOCATION or OPTIONS with `SettingsError`.
            ``__init__`` must not connect: system checks create the transport, too.
    """

    writes_inboxes: ClassVar[bool] = False
    """`publish` inserts messages into the inboxes itself; there is nothing to receive."""

    thread_safe: ClassVar[bool] = False
    """One instance serves all threads of a process, and several of them may use it at once."""

    needs_text: ClassVar[bool] = True
    """The relay must fetch headers and payload for `publish`."""

    redelivers_for: timedelta | None = None
    """How long a message may be redelivered; its id must be remembered at least as long (E012).

    None: the transport does not know.
    """

    can_wait: ClassVar[bool] = False
    """`wait_for_messages` is implemented; without it the receiver polls."""

    def __init__(self, settings: TransportSettings) -> None:
        self.settings = settings
        self._bounds: dict[tuple[str, int | None], BatchBound] = {}

    @property
    def timeout(self) -> float:
        """PUBLISH_TIMEOUT in seconds: the hard limit of one call of `publish` or `receive`."""
        return settings().publish_timeout.total_seconds()

    def bound(self, label: str, partition: int | None = None) -> BatchBound:
        """Return how much a batch may carry: one of the receiver of a context, by default.

        ``partition``: of its outbox. The relay and the receiver bound the rows, and the relay the
        bytes as well. A transport that cannot know the sizes before it reads uses the bound of its
        receivers in `receive`.
        """
        return self._bounds.setdefault((label, partition), BatchBound(self.timeout))

    def users(self) -> list[Context]:
        """Return the contexts of this project that use this transport."""
        transports = settings().transports
        return [each for each in contexts() if transports[each.transport] is self.settings]

    @abstractmethod
    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """Publish messages in order, and return which of them were confirmed.

        Called by the relay in its transaction, which holds the lock of the partition. Make one
        attempt within `timeout`: a retry would publish twice and keep the transaction open.

        The same messages may be published again, after a crash, a lost confirmation or a rolled
        back transaction; subscribers drop duplicates by id. After a refused message no later one
        of its key may be sent in the same call; `Refusals` keeps track of that.

        Arguments:
            source: the publishing context.
            messages: at least one; all of one partition, in the order of their commits.

        Raises:
            TransportUnavailable: the other side cannot be reached or did not confirm in time. It is
                unknown which messages arrived; all of them will be published again, in smaller
                batches. Where some were confirmed before, return them with the outage instead
                (`Published`): they will not be published again.
        """

    def local_problems(self) -> Iterator[str]:
        """Yield what is wrong as far as this machine can tell, each as a clause with its option.

        Called by every ``manage.py check`` (E013), so it must not connect: a file that an option names
        and that cannot be read, for example. The default yields nothing.
        """
        yield from ()

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the server or its configuration, each as a sentence with a way out.

        Called by ``manage.py check --deploy`` and at the start of ``run_contexts``, never in a
        transaction, any number of times. It may ask the server, and must neither add nor delete messages there.
        """
        yield from ()

    def recall(self, context: Context, queue: "Queue", number: int, positions: str) -> None:
        """Take up how far an earlier run has read (intake) or published (outbox).

        Called at the begin of each run, in no transaction. Compare it with what the other side has,
        and announce what is missing by the signal ``message_lost``. The default does nothing.

        Arguments:
            positions: what `positions` has returned, in this process or another; empty: nothing yet.
                It may be older than what was reached, after a crash.
        """

    def positions(self, context: Context, queue: "Queue", number: int) -> str | None:
        """Return how far was read or published by now, as text that `recall` takes; None: nothing new.

        The database stores it with the end of the run, and from time to time. Of an intake: only what
        was acknowledged.
        """
        return None

    def has_messages(self, context: Context) -> bool:
        """Return whether `receive` may return something; True when in doubt.

        Called outside of any transaction, and very often: before the partition is locked, and
        after each batch within `attached`. It must be cheap, so that an idle transport costs the
        database nothing. A wrong True costs one empty batch; a wrong False delays messages until
        something else arrives.
        """
        return True

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        """Block until a message arrives for one of the contexts, or until the time is over.

        Only called if ``can_wait``, again and again, in a thread of its own and in no transaction,
        while another thread may be in any other method: use a connection of its own.

        The result only ends the pause of a worker early, so it may be wrong both ways. But what was
        there at the last call must not count as new: messages of a paused partition stay, and would
        keep the process busy. The first call of a thread may count them.

        Arguments:
            contexts: subscribers that use this transport, always the same in one thread.
            seconds: the longest time to block.

        Returns:
            Whether a message may have arrived.

        Raises:
            TransportUnavailable: the other side cannot be reached. It, or any other exception, is
                logged, and the method is called again after a growing pause.
        """
        raise NotImplementedError

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        """Be the only receiver of a context within the block.

        Entered and left outside of any transaction, around any number of calls of `receive` and
        `acknowledge`. Before the block another process may have received: what it did not
        acknowledge comes first. After the block another process may receive: what was handed out
        and not acknowledged must be available to it, in its place in the order. A process that is
        killed does not leave the block.

        The default does nothing.
        """
        yield

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """Return up to ``limit`` messages for a subscribing context, oldest first.

        Called within `attached`, in the receiver's transaction, which holds the lock of the context's
        intake partition. Make one attempt within `timeout`, and return at once if there is nothing:
        waiting would keep the transaction open.

        Return what has been read when the time is over, or when it has as many bytes as `bound`
        allows: what a time-out throws away would be read again, for ever.

        Messages that were handed out and not acknowledged come again, before anything new (rule
        O4). Return a message that cannot be decoded as well: the receiver quarantines it, where an
        exception would block everything behind it.

        Arguments:
            context: the subscriber.
            limit: at least 1.

        Returns:
            The messages; empty only if there are none.
        """
        return ()

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """Confirm messages whose inbox rows are committed (rule O4).

        Called within `attached`, outside of any transaction, once after each `receive` that returned
        something, with all its messages. It is not called after a crash or a failed commit.

        Raises:
            TransportUnavailable: it is unknown whether the acknowledgement arrived. The messages may
                come again, and the inbox drops them as duplicates.
        """
