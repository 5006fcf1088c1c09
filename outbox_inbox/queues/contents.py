"""What two messages with one id must have in common, so that the second is a repetition.

A repetition is dropped without a word (rule O7). If the second says something else, dropping it would
lose what it says: that is a conflict, which its caller keeps and reports. A message whose texts were
emptied is compared by their digest: that of the payload, a colon, and that of the headers.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
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
    digest: str | None = None
    """Of a message whose texts were emptied."""


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
    if one.digest or other.digest:
        one, other = _digested(one), _digested(other)
    elif _counted(one.headers) == _counted(other.headers):
        other = other._replace(headers=one.headers)
    names = [
        name
        for name, mine, theirs in zip(Contents._fields, one, other, strict=True)
        if mine != theirs
    ]
    return f"its id was received before, with another {_listed(names)}" if names else ""


def headers_digest(headers: str) -> str:
    """Return the digest of the headers that count, in hexadecimal digits."""
    return _sha256(json.dumps(_counted(headers), sort_keys=True))


def _digested(contents: Contents) -> Contents:
    """Return contents with digests in place of the texts."""
    payload, _, headers = (contents.digest or "").partition(":")
    return contents._replace(
        payload=payload or _sha256(contents.payload),
        headers=headers or headers_digest(contents.headers),
        digest=None,
    )


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _counted(headers: Any) -> dict[str, Any]:
    return {name: value for name, value in json.loads(headers).items() if name not in TRACING}


def _listed(names: Sequence[str]) -> str:
    *most, last = ["other headers" if name == "headers" else name for name in names]
    return f"{', '.join(most)} and {last}" if most else last
