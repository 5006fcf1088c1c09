"""CloudEvents attributes as AMQP properties and headers, and back from any message at all."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from amqp.basic_message import Message

from outbox_inbox.transports.base import ReceivedMessage

PREFIX: Final = "cloudEvents:"
UNREADABLE: Final = "unreadable"
"""The attribute with the error, for properties that cannot be decoded."""

_ALSO_READ: Final = "cloudEvents_"  # the AMQP binding of CloudEvents allows it, too
_PERSISTENT: Final = 2


def amqp_message(attributes: Mapping[str, str], data: bytes) -> Message:
    """Return the message for some attributes; it survives a restart of the server."""
    return Message(
        data,
        content_type=attributes["datacontenttype"],
        message_id=attributes["id"],
        delivery_mode=_PERSISTENT,
        application_headers={
            PREFIX + name: value for name, value in attributes.items() if name != "datacontenttype"
        },
    )


def size_of(attributes: Mapping[str, str]) -> int:
    """Return about how many bytes the header frame takes, rounded up."""
    overhead = len(PREFIX) + 8
    return 64 + sum(
        len(name) + len(value.encode(errors="surrogatepass")) + overhead
        for name, value in attributes.items()
    )


def received_message(message: Message) -> ReceivedMessage:
    """Return a delivery as its attributes and bytes; never raises, whatever it contains."""
    headers = message.properties.get("application_headers")
    attributes: dict[str, str] = {}
    for name, value in (headers or {}).items():
        known = isinstance(name, str) and name.startswith((PREFIX, _ALSO_READ))
        if known and name != PREFIX and value is not None:
            attributes[name[len(PREFIX) :]] = text_of(value)
    content_type = message.properties.get("content_type")
    if content_type:
        attributes["datacontenttype"] = content_type
    # Without a body py-amqp leaves an empty text there.
    data = message.body if isinstance(message.body, bytes) else b""
    return ReceivedMessage(receipt=message.delivery_tag, attributes=attributes, data=data)


def text_of(value: object) -> str:
    """Return a header's value as text: numbers as digits, tables as JSON; never raises."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, dict | list):
        return str(value)
    try:
        return json.dumps(value, default=text_of, skipkeys=True)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} that is too deep"
