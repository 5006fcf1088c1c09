"""What a transport is: the whole contract that the relay and the receiver rely on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused


class OutgoingMessage(NamedTuple):
    """An integration event on its way out; a tuple, which is made in a third of the time.

    Fields:
        row: the id of its outbox row, or its position in the stream; identifies it within one
            batch only.
        id: the message id, the same at every redelivery.
        type, version: name and version of the contract.
        key: orders the messages that have it in common; None has no order.
        key_hash: what partitions are computed from.
        partition: of the outbox; messages of one key have it in common, and so do all of a batch.
        time: when it was recorded, aware.
        correlation_id, causation_id, hops: its place in the conversation.
        headers, data: JSON text, to be carried byte for byte; empty for a transport that
            says ``needs_text = False``.
        stored: ``row`` is a position in the stream; the same for all of a batch.
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
    """A message as it came from a transport: nothing of it has been read, let alone believed.

    Fields:
        receipt: what the transport needs to acknowledge it.
        attributes: the CloudEvents attributes by name, without the prefix of the protocol; see
            `wire`.
        data: the bytes of the payload.
    """

    receipt: Any
    attributes: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of a batch.

    Fields:
        sent: rows that the transport has confirmed.
        refused: row -> why the transport does not take this message.
    A row in neither was not tried, since an earlier one of its key was refused.
    """

    sent: Sequence[int]
    refused: Mapping[int, MessageRefused] = field(default_factory=dict)


class Transport(ABC):
    """Carries contracts from the context that publishes them to those that subscribe.

    Methods are called from one process at a time for each partition of an outbox (`publish`) and
    for each context (`attached`, `receive`, `acknowledge`), never within the transaction of a use
    case. There is one instance a process, and only one thread uses it at a time; beside that one,
    another may be in `wait_for_messages`.
    """

    writes_inboxes: ClassVar[bool] = False
    """`publish` puts messages into the inboxes itself; there is nothing to receive."""

    needs_text: ClassVar[bool] = True
    """The relay has to read headers and payload for `publish`."""

    redelivers_for: timedelta | None = None
    """For how long a message may be handed out again; its id has to be remembered as long (E012).

    None: the transport does not say.
    """

    can_wait: ClassVar[bool] = False
    """`wait_for_messages` is implemented; without it, messages are found by polling."""

    def __init__(self, settings: TransportSettings) -> None:
        self.settings = settings

    @abstractmethod
    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        """Hand messages over, in order, and say which of them were confirmed.

        Called within the relay's transaction, with one attempt and a hard time-out
        (PUBLISH_TIMEOUT). May be called again with messages that were confirmed before, after a
        crash or a lost answer: subscribers drop duplicates by their ids. After a refused message
        no later one of its key may be sent in the same call.

        Raises:
            TransportUnavailable: the other side cannot be reached. What has arrived of the batch
                is unknown; all of it will be published again.
        """

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings or the server, each as a sentence with a way out.

        Called at the start of a long-running process and by ``manage.py check --deploy``; may ask
        the server. Never called within a transaction.

        Raises:
            TransportUnavailable: the server cannot be asked.
        """
        yield from ()

    def has_messages(self, context: Context) -> bool:
        """Tell cheaply whether `receive` may return something; true when in doubt.

        Called before a partition is taken, and within `attached` after each batch, so that an
        empty stream costs the database nothing.

        Raises:
            TransportUnavailable: the other side cannot be reached.
        """
        return True

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        """Block until a message has arrived for one of the contexts, but no longer than so long.

        Called over and over by a thread of its own, beside all other methods: use a client of
        its own, too. It ends pauses early and decides nothing, so it may be wrong both ways; but
        what was there at the last call must not count as new, or a message that nobody may
        receive (a paused partition) would keep the process busy. The first call of a thread may
        count what is there. Only called if ``can_wait``.

        Arguments:
            contexts: subscribers whose transport this is, always the same in one thread.
            seconds: the longest time to block.

        Returns:
            Whether something may have arrived.

        Raises:
            TransportUnavailable: the other side cannot be reached; called again after a pause.
        """
        raise NotImplementedError

    @contextmanager
    def attached(self, context: Context) -> Iterator[None]:
        """Be the only receiver of a context within the block.

        Before, another process may have been; what it left unacknowledged comes first. After, it
        may be another process's turn: what was handed out and not acknowledged must be there for
        it, in its place. The default has nothing to prepare.

        Raises:
            TransportUnavailable: the other side cannot be reached.
        """
        yield

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """Return up to ``limit`` messages for a subscribing context, oldest first, at once.

        Called within `attached`, and within a transaction of the receiver: it never waits for
        messages to come, and has one attempt and a hard time-out (PUBLISH_TIMEOUT). What was
        handed out and not acknowledged comes again, before anything new.

        Raises:
            TransportUnavailable: the other side cannot be reached.
        """
        return ()

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """Confirm messages after their inbox rows were committed (rule O4).

        Called within `attached`, outside of any transaction, with all that `receive` returned.

        Raises:
            TransportUnavailable: they will come again, and be dropped as duplicates.
        """
