"""Replies about the consumer groups of a stream: how far each of them has read."""

from typing import Any, NamedTuple

from .client import ResponseError

Id = tuple[int, int]
"""The id of an entry: milliseconds since 1970 at which it was written, and a number."""


class Group(NamedTuple):
    """A consumer group of a stream.

    Fields:
        label: the subscribing context.
        pending: entries that were handed out and not acknowledged.
        delivered: the last entry that was handed out.
        lag: entries that were not handed out yet; None: the server does not know.
    """

    label: str
    pending: int
    delivered: Id
    lag: int | None


def groups_of(reply: Any) -> list[Group]:
    """Return the groups in a reply to ``XINFO GROUPS``; empty if the stream does not exist."""
    if isinstance(reply, ResponseError):
        return []
    return [
        Group(
            label=info[b"name"].decode("utf-8", "replace"),
            pending=info[b"pending"],
            delivered=parse_id(info[b"last-delivered-id"]),
            lag=info.get(b"lag"),  # absent in Redis 6
        )
        for info in (dict(zip(each[::2], each[1::2], strict=True)) for each in reply)
    ]


def oldest_pending(reply: Any) -> Id | None:
    """Return the first pending entry in a reply to ``XPENDING``; None if nothing is pending."""
    return parse_id(reply[1]) if reply[1] else None


def parse_id(value: bytes) -> Id:
    """Return an id as numbers, which can be compared."""
    milliseconds, _, number = value.partition(b"-")
    return int(milliseconds), int(number or 0)


def id_text(value: Id) -> str:
    """Return an id as the server takes it."""
    return f"{value[0]}-{value[1]}"
