"""A message as an entry of a stream, and back.

Each attribute of `wire` is a field ``ce_<attribute>``; ``data`` is the payload, byte for byte.
"""

from collections.abc import Sequence
from typing import NamedTuple

from outbox_inbox.contexts import Context

from .. import wire
from ..base import OutgoingMessage, ReceivedMessage
from .link import command

DATA = b"data"
_PREFIX = b"ce_"


class Receipt(NamedTuple):
    """Where a message stands: what is needed to acknowledge it."""

    stream: str
    id: bytes


def append(stream: str, source: Context, message: OutgoingMessage, data: bytes) -> bytes:
    """Return the command that appends a message to a stream."""
    parts: list[str | bytes] = ["XADD", stream, "*"]
    for name, value in wire.attributes_of(source, message).items():
        parts += (f"ce_{name}", value)
    return command(*parts, DATA, data)


def received(stream: str, id_: bytes, fields: Sequence[bytes]) -> ReceivedMessage:
    """Return an entry as a message, whoever wrote it.

    A field that we do not know is kept under a name that no attribute can have. Bytes that are
    no UTF-8 stay what they are (``surrogateescape``): what to think of them is for others to say.
    """
    attributes, data = {}, b""
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == DATA:
            data = value
        elif name.startswith(_PREFIX):
            attributes[_text(name[len(_PREFIX) :])] = _text(value)
        else:
            attributes[f"field:{_text(name)}"] = _text(value)
    return ReceivedMessage(receipt=Receipt(stream, id_), attributes=attributes, data=data)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
