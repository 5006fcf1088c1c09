"""What a transport is: the whole contract that the relay and the receiver rely on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """An integration event on its way out.

    Fields:
        row: the id of its outbox row; identifies it within one batch only.
        id: the message id, the same at every redelivery.
        type, version: name and version of the contract.
        key: orders the messages that have it in common; None has no order.
        key_hash: what partitions are computed from.
        time: when it was recorded, aware.
        correlation_id, causation_id, hops: its place in the conversation.
        headers, data: JSON text, to be carried byte for byte; empty for a transport that
            says ``needs_text = False``.
    """

    row: int
    id: UUID
    type: str
    version: int
    key: str | None
    key_hash: int
    time: datetime
    correlation_id: UUID
    causation_id: UUID | None
    hops: int
    headers: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message that a transport hands to a receiver.

    Fields:
        source: label of the context that published it.
        receipt: what the transport needs to acknowledge it.
    Everything else as in `OutgoingMessage`.
    """

    receipt: Any
    source: str
    id: UUID
    type: str
    version: int
    key: str | None
    key_hash: int
    time: datetime
    correlation_id: UUID
    causation_id: UUID | None
    hops: int
    headers: str
    data: str


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
    for each context (`receive`, `acknowledge`), never within the transaction of a use case.
    """

    writes_inboxes: ClassVar[bool] = False
    """`publish` puts messages into the inboxes itself; there is nothing to receive."""

    needs_text: ClassVar[bool] = True
    """The relay has to read headers and payload for `publish`."""

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

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        """Return up to ``limit`` messages for a subscribing context, oldest first.

        What was handed out and not acknowledged comes again, before anything new.

        Raises:
            TransportUnavailable: the other side cannot be reached.
        """
        return ()

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        """Confirm messages after their inbox rows were committed (rule O4).

        Raises:
            TransportUnavailable: they will come again, and be dropped as duplicates.
        """
