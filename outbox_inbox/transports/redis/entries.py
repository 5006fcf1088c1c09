"""A message as an entry of a stream, and back.

Each attribute of `wire` is a field ``ce_<attribute>``; ``data`` is the payload, byte for byte.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from outbox_inbox.contexts import Context

from .. import wire
from ..base import OutgoingMessage, ReceivedMessage

_PREFIX = "ce_"
_SAME = frozenset(("specversion", "source", "type", "datacontenttype"))
"""Attributes that have the same value in very many messages."""


class Receipt(NamedTuple):
    """The position of a message: what is needed to acknowledge it."""

    stream: str
    id: bytes


def append_command(stream: str, source: Context, message: OutgoingMessage) -> str:
    """Return the command that appends a message to a stream, as it goes over the wire."""
    attributes = wire.attributes_of(source, message)
    fields = [
        _same(name, value) if name in _SAME else f"{_name(name)}{_bulk(value)}"
        for name, value in attributes.items()
    ]
    return f"{_head(stream, len(fields))}{''.join(fields)}{_DATA}{_bulk(message.data)}"


def _bulk(value: str) -> str:
    # The length counts the bytes of UTF-8; most texts are ASCII, and Python knows which are.
    size = len(value) if value.isascii() else len(value.encode())
    return f"${size}\r\n{value}\r\n"


@cache
def _head(stream: str, attributes: int) -> str:
    return f"*{3 + 2 * (attributes + 1)}\r\n{_bulk('XADD')}{_bulk(stream)}{_bulk('*')}"


@cache
def _name(attribute: str) -> str:
    return _bulk(f"{_PREFIX}{attribute}")


@lru_cache(maxsize=1_000)
def _same(attribute: str, value: str) -> str:
    return f"{_name(attribute)}{_bulk(value)}"


_DATA = _bulk("data")


def received_message(stream: str, id_: bytes, fields: Sequence[bytes]) -> ReceivedMessage:
    """Return an entry as a message, whatever program wrote it.

    An unknown field is kept under a name that no attribute can have. Bytes that are not UTF-8 are
    kept as they are (``surrogateescape``); the receiver decides whether to quarantine the message.
    """
    attributes: dict[str, str] = {}
    data = b""
    parts = iter(fields)
    for name, value in zip(parts, parts, strict=True):
        attribute = _KNOWN.get(name)
        if attribute is not None:
            attributes[attribute] = value.decode("utf-8", "surrogateescape")
        elif name == b"data":
            data = value
        else:
            text = name.decode("utf-8", "surrogateescape")
            unknown = text.removeprefix(_PREFIX) if text.startswith(_PREFIX) else f"field:{text}"
            attributes[unknown] = value.decode("utf-8", "surrogateescape")
    return ReceivedMessage(receipt=Receipt(stream, id_), attributes=attributes, data=data)


_KNOWN = {f"{_PREFIX}{name}".encode(): name for name in wire.ATTRIBUTES}
