"""What two messages with one id must have in common, so that the second is a repetition.

A repetition is dropped without a word (rule O7). If the second says something else, dropping it would
lose what it says: that is a conflict, which its caller keeps and reports.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

TRACING: Final = ("traceparent", "tracestate")
"""Headers that may differ at a repetition: they describe how a message is sent, not what it says."""


class Contents(NamedTuple):
    """What a message says, without what describes how it came to be: time, cause and hops."""

    type: str
    version: int
    key: str | None
    payload: str
    headers: str


class _Row(Protocol):
    @property
    def type(self) -> str: ...
    @property
    def schema_version(self) -> int: ...
    @property
    def key(self) -> str | None: ...
    @property
    def payload(self) -> str: ...
    @property
    def headers(self) -> str: ...


def contents_of(row: _Row) -> Contents:
    """Return what the message of a row says."""
    return Contents(row.type, row.schema_version, row.key, row.payload, row.headers)


def conflict_between(one: Contents, other: Contents) -> str:
    """Return in what a message differs from another with its id; empty: it is a repetition."""
    if one == other:
        return ""
    names = [
        name
        for name, mine, theirs in zip(Contents._fields, one, other, strict=True)
        if mine != theirs and not (name == "headers" and _counted(mine) == _counted(theirs))
    ]
    return f"its id was received before, with another {_listed(names)}" if names else ""


def _counted(headers: Any) -> dict[str, Any]:
    return {name: value for name, value in json.loads(headers).items() if name not in TRACING}


def _listed(names: Sequence[str]) -> str:
    *most, last = ["other headers" if name == "headers" else name for name in names]
    return f"{', '.join(most)} and {last}" if most else last
