"""Checks a message from outside before it gets into an inbox.

A message that is accepted can be read by its consumers. Any other is refused with a reason and goes
into quarantine: in the inbox it would fail at every attempt and block the messages behind it.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import NamedTuple

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Context
from outbox_inbox.events import codec, meta
from outbox_inbox.exceptions import TransportUnavailable, UnreadableMessage
from outbox_inbox.models import QuarantineReason
from outbox_inbox.queues import statements
from outbox_inbox.transports import ReceivedMessage, signing

from .cloudevents import Refusal, check_attributes, excerpt, received_row

__all__ = ["Accepted", "Refusal", "accept_message"]

_CONTRACT = re.compile(r"(?P<name>.*)\.v(?P<version>[0-9]{1,5})", re.DOTALL)


class Accepted(NamedTuple):
    """A message as a row for the inbox, and the label of the context that it is from."""

    source: str
    row: statements.ReceivedRow


def accept_message(
    context: Context,
    message: ReceivedMessage,
    stored: Callable[[], Mapping[str, int]] = dict[str, int],
) -> Accepted | None:
    """Return a message as a row for the context's inbox; None: the context does not subscribe to it.

    Arguments:
        stored: returns what contracts the context subscribes to in the code of any process, with
            the newest version; asked only about what this process's code does not have.

    Raises:
        Refusal: it is invalid, or its consumers cannot read it.
        TransportUnavailable: only newer code can verify its signature.
    """
    attributes = message.attributes
    _check_size(message)
    check_attributes(attributes)
    source = _checked_source(context, attributes["source"], stored)
    _check_signature(context, source, message)
    name, version = _contract_of(attributes["type"], source)
    readable = _is_readable(context, name, version, stored)
    if readable is None:
        return None
    try:
        data = message.data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(QuarantineReason.NOT_JSON, f"its payload is not UTF-8: {error}") from None
    if readable:
        _check_payload(context, name, version, data)
    return Accepted(source, received_row(context, source, (name, version), attributes, data))


def _is_readable(
    context: Context, name: str, version: int, stored: Callable[[], Mapping[str, int]]
) -> bool | None:
    """Return whether this process can read a contract; None: the context does not want it.

    What only the newer code of another process subscribes to, or can read, is taken as it is: an
    acknowledgement without it would lose it. Its consumers check it when they get it.
    """
    newest = meta(context.events[name]).version if name in context.subscribed else 0
    if version <= newest:
        return True
    if version <= stored().get(name, 0):
        return False
    return True if newest else None


def _check_size(message: ReceivedMessage) -> None:
    limit = settings().max_payload
    if len(message.data) > limit:
        raise Refusal(
            QuarantineReason.TOO_LARGE,
            f"its payload has {len(message.data):,} bytes; MAX_PAYLOAD allows {limit:,}",
        )


def _checked_source(context: Context, given: str, stored: Callable[[], Mapping[str, int]]) -> str:
    label = given.removeprefix("/")
    if label not in context.sources and not any(
        name.partition(".")[0] == label for name in stored()
    ):
        known = ", ".join(f"/{label}" for label in sorted(context.sources)) or "none"
        raise Refusal(
            QuarantineReason.UNKNOWN_SOURCE,
            f"{context.label!r} does not subscribe to the source {excerpt(given)}; its sources: {known}",
        )
    return label


def _check_signature(context: Context, source: str, message: ReceivedMessage) -> None:
    if source not in context.sources and context.verifying and source not in context.verifying:
        # Newer code subscribes to it, and may have keys for it. Taken without a check, a forged
        # message would get in; refused, a genuine one would lose its place.
        raise TransportUnavailable(
            f"{context.label!r} subscribes to the source {source!r} in newer code only, which has to "
            "verify its signatures: a process of that code will receive the messages",
            longest=timedelta(seconds=5),
        )
    verifying = context.verifying.get(source)
    problem = verifying and signing.signature_problem(verifying, message.attributes, message.data)
    if problem:
        raise Refusal(QuarantineReason.WRONG_SIGNATURE, problem)


def _contract_of(given: str, source: str) -> tuple[str, int]:
    match = _CONTRACT.fullmatch(given)
    if match is None or int(match["version"]) == 0:
        raise Refusal(
            QuarantineReason.UNKNOWN_TYPE,
            f"the type {excerpt(given)} is not the name and version of a contract, such as "
            "ordering.order_placed.v1",
        )
    name = match["name"]
    if name.partition(".")[0] != source:
        raise Refusal(
            QuarantineReason.UNKNOWN_TYPE,
            f"the type {excerpt(given)} is not a contract of the source {source!r}",
        )
    return name, int(match["version"])


def _check_payload(context: Context, name: str, version: int, data: str) -> None:
    cls = context.events[name]
    newest, upcasters = meta(cls).version, context.upcasters_of(cls)
    if version > newest or any(number not in upcasters for number in range(version, newest)):
        raise Refusal(
            QuarantineReason.UNKNOWN_VERSION,
            f"version {version} of {name} cannot be read here: the contract has version {newest}, "
            f"and upcasters from {', '.join(map(str, sorted(upcasters))) or 'no other version'}",
        )
    try:
        codec.decode(cls, data, version=version, upcasters=upcasters)
    except UnreadableMessage as error:
        raise Refusal(_reason_unreadable(data), str(error)) from None


def _reason_unreadable(data: str) -> QuarantineReason:
    """Return which check a payload failed; the checks that find out are slower than decoding."""
    try:
        codec.check_limits(data, settings().max_payload)
    except UnreadableMessage:
        return QuarantineReason.TOO_DEEP
    try:
        codec.load_object(data)
    except UnreadableMessage:
        return QuarantineReason.NOT_JSON
    return QuarantineReason.WRONG_SCHEMA
