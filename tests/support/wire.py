"""Transports that a test holds in its hands."""

from collections.abc import Callable, Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.transports import OutgoingMessage, Published, ReceivedMessage, Transport
from outbox_inbox.transports.base import Refusals
from outbox_inbox.transports.local import LocalTransport

from .script import play

WIRE = {"TRANSPORTS": {"default": {"BACKEND": "tests.support.wire.Wire"}}}
SHAKY = {"TRANSPORTS": {"default": {"BACKEND": "tests.support.wire.Shaky"}}}

WAITING = {"TRANSPORTS": {"default": {"BACKEND": "tests.support.wire.Waiting"}}}

confirmed: list[OutgoingMessage] = []
"""What was confirmed, in order; a test that reads it empties it first."""


class Wire(Transport):
    """Confirms everything and carries it nowhere, unless the script has other parts for it.

    The parts are called ``publish``, ``receive`` and ``acknowledge``, with the arguments of these.
    """

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        published: Published = play("publish", messages, otherwise=take_all(messages))
        confirmed.extend(message for message in messages if message.row in published.sent)
        return published

    def receive(self, context: Context, limit: int) -> Sequence[ReceivedMessage]:
        found: Sequence[ReceivedMessage] = play("receive", context, limit, otherwise=())
        return found

    def acknowledge(self, context: Context, messages: Sequence[ReceivedMessage]) -> None:
        play("acknowledge", context, messages)


class Waiting(Wire):
    """Waits for messages as the part ``wait`` says, which gets the contexts and the seconds."""

    can_wait = True

    def wait_for_messages(self, contexts: Sequence[Context], seconds: float) -> bool:
        return bool(play("wait", contexts, seconds))


def refusing(
    unwanted: Callable[[OutgoingMessage], bool],
) -> Callable[[Sequence[OutgoingMessage]], Published]:
    """Return a part for ``publish``: refuse some messages, and leave out who follows them."""

    def publish(messages: Sequence[OutgoingMessage]) -> Published:
        refusals, sent = Refusals(), []
        for message in messages:
            if unwanted(message) and not refusals.blocks(message):
                refusals.add(message, MessageRefused("not this one"))
            elif not refusals.blocks(message):
                sent.append(message.row)
        return Published(sent=sent, refused=refusals.by_row)

    return publish


class Shaky(LocalTransport):
    """``local://`` that sometimes fails: the part ``shake`` says which messages it refuses now.

    It is called with the messages before they are moved, and may raise whatever it likes.
    """

    def publish(self, source: Context, messages: Sequence[OutgoingMessage]) -> Published:
        verdict: Published = play("shake", messages, otherwise=None) or take_all(messages)
        taken = [message for message in messages if message.row in verdict.sent]
        sent = super().publish(source, taken).sent if taken else ()
        return Published(sent=sent, refused=verdict.refused)


def take_all(messages: Sequence[OutgoingMessage]) -> Published:
    """Be a transport that confirms everything."""
    return Published(sent=[message.row for message in messages])
