"""Judges what comes from outside before it gets into an inbox.

A message that passes is one that its consumers can read. Whatever else comes is refused with a
reason, and kept aside: it never gets to a handler and never stops those behind it.
"""

from typing import NamedTuple

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec, meta
from outbox_inbox.exceptions import UnreadableMessage
from outbox_inbox.models import QuarantineReason
from outbox_inbox.queues import statements
from outbox_inbox.transports import ReceivedMessage, signing

from .cloudevents import Refusal, check_attributes, row_of, shown

__all__ = ["Accepted", "Refusal", "vet"]


class Accepted(NamedTuple):
    """A message that may come in, as a row, and the context that it is from."""

    source: str
    row: statements.ReceivedRow


def vet(context: Context, message: ReceivedMessage) -> Accepted | None:
    """Return the message as a row for the context's inbox; None: it is of no interest to it.

    Raises:
        Refusal: it cannot be what its sender wanted to tell.
    """
    attributes = message.attributes
    _check_size(message)
    check_attributes(attributes)
    source = _source(context, attributes["source"])
    _check_signature(context, source, message)
    name, version = _type(attributes["type"], source)
    if name not in context.subscribed:
        return None
    data = _text(message.data)
    _check_payload(context, name, version, data)
    return Accepted(source, row_of(context, source, (name, version), attributes, data))


def _check_size(message: ReceivedMessage) -> None:
    limit = settings().max_payload
    if len(message.data) > limit:
        raise Refusal(
            QuarantineReason.TOO_LARGE,
            f"it has {len(message.data):,} bytes, and MAX_PAYLOAD allows {limit:,}",
        )


def _source(context: Context, given: str) -> str:
    label = given.removeprefix("/")
    if label not in context.sources:
        known = ", ".join(f"/{each}" for each in sorted(context.sources)) or "none"
        raise Refusal(
            QuarantineReason.UNKNOWN_SOURCE,
            f"the source {shown(given)} is none that {context.label!r} listens to ({known})",
        )
    return label


def _check_signature(context: Context, source: str, message: ReceivedMessage) -> None:
    verifying = context.verifying.get(source)
    problem = verifying and signing.signature_problem(verifying, message.attributes, message.data)
    if problem:
        raise Refusal(QuarantineReason.WRONG_SIGNATURE, problem)


def _type(given: str, source: str) -> tuple[str, int]:
    name, separator, number = given.rpartition(".v")
    if not (
        separator
        and number.isascii()
        and number.isdecimal()
        and len(number) <= 5
        and int(number) > 0
    ):
        raise Refusal(
            QuarantineReason.UNKNOWN_TYPE,
            f"the type {shown(given)} is no contract's name and version, such as "
            "ordering.order_placed.v1",
        )
    if name.partition(".")[0] != source:
        raise Refusal(
            QuarantineReason.UNKNOWN_TYPE, f"the type {shown(given)} is no contract of {source!r}"
        )
    return name, int(number)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(QuarantineReason.NOT_JSON, f"the data is not UTF-8: {error}") from None


def _check_payload(context: Context, name: str, version: int, data: str) -> None:
    cls = context.events[name]
    newest, upcasters = meta(cls).version, context.upcasters_of(cls)
    if version > newest or any(number not in upcasters for number in range(version, newest)):
        raise Refusal(
            QuarantineReason.UNKNOWN_VERSION,
            f"version {version} of {name} cannot be read here: known is {newest}, with upcasters "
            f"from {', '.join(map(str, sorted(upcasters))) or 'no other'}",
        )
    try:
        codec.decode(cls, data, version=version, upcasters=upcasters)
    except UnreadableMessage as error:
        raise Refusal(_why_unreadable(data), str(error)) from None


def _why_unreadable(data: str) -> QuarantineReason:
    """Find out which of its checks a payload did not pass; only asked of those that did not."""
    try:
        codec.check_limits(data, settings().max_payload)
    except UnreadableMessage:
        return QuarantineReason.TOO_DEEP
    try:
        codec.load_object(data)
    except UnreadableMessage:
        return QuarantineReason.NOT_JSON
    return QuarantineReason.WRONG_SCHEMA
