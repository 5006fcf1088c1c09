"""How far the consumer groups of a stream have read, as the server tells it."""

from typing import Any, NamedTuple

from .link import ResponseError

Id = tuple[int, int]
"""The id of an entry: when it was written, in milliseconds since 1970, and a number."""


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


def groups_of(answer: Any) -> list[Group]:
    """Return the groups in an answer to ``XINFO GROUPS``; none if there is no such stream."""
    if isinstance(answer, ResponseError):
        return []
    return [_group(dict(zip(each[::2], each[1::2], strict=True))) for each in answer]


def oldest_pending(answer: Any) -> Id | None:
    """Return the first pending entry in an answer to ``XPENDING``; None: there is none."""
    return parse_id(answer[1]) if answer[1] else None


def parse_id(value: bytes) -> Id:
    """Return an id as numbers, which can be compared."""
    milliseconds, _, number = value.partition(b"-")
    return int(milliseconds), int(number or 0)


def shown_id(value: Id) -> str:
    """Return an id as the server takes it."""
    return f"{value[0]}-{value[1]}"


def _group(told: dict[bytes, Any]) -> Group:
    return Group(
        label=told[b"name"].decode("utf-8", "replace"),
        pending=told[b"pending"],
        delivered=parse_id(told[b"last-delivered-id"]),
        lag=told.get(b"lag"),  # Redis 6 does not say it
    )
