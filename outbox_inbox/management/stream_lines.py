"""The events of a stream as lines for people, and as the parts of a JSON document."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from outbox_inbox.events import codec
from outbox_inbox.exceptions import UnreadableMessage
from outbox_inbox.operations import StreamEntry

from .escaping import json_line, visible

MOST = 2_000
"""Characters of one value that people are shown; the JSON document has all of them."""

_NARROWEST = 40


def lines(seen: StreamEntry, digits: int, width: int) -> Iterator[str]:
    """Yield the lines about one event.

    Arguments:
        digits: how many the versions have.
        width: how many characters a line may have.
    """
    margin = " " * (digits + 2)
    when = f"{seen.time:%Y-%m-%d %H:%M:%S}"
    head = f"{seen.version:>{digits}}  {when}  {visible(seen.type)} v{seen.schema_version}"
    yield from _wrapped(head, width, margin, first="")
    if seen.data is not None:
        yield from _wrapped("  ".join(_fields(seen.data)), width, margin)
    else:
        yield from _wrapped(f"cannot be read: {visible(seen.problem or '')}", width, margin)
        yield from _wrapped(f"payload {_cut(visible(seen.payload))}", width, margin)
    cause = f"  caused by {_short(seen.causation_id)}" if seen.causation_id else ""
    key = "" if seen.key is None else f"key {_cut(visible(seen.key))}  "
    yield from _wrapped(f"{key}correlation {_short(seen.correlation_id)}{cause}", width, margin)


def document(seen: StreamEntry) -> str:
    """Return one event as JSON on one line."""
    found: dict[str, Any] = {
        "version": seen.version,
        "position": seen.position,
        "time": seen.time.isoformat(),
        "id": str(seen.id),
        "type": seen.type,
        "schema_version": seen.schema_version,
        "key": seen.key,
        "correlation_id": str(seen.correlation_id),
        "causation_id": None if seen.causation_id is None else str(seen.causation_id),
        "headers": _headers(seen.headers),
    }
    if seen.data is not None:
        return json_line({**found, "data": json.loads(seen.data)})
    return json_line({**found, "data": None, "problem": seen.problem, "payload": seen.payload})


def _fields(data: str) -> Iterator[str]:
    for name, value in json.loads(data).items():
        yield f"{name} {_cut(json_line(value))}"


def _headers(stored: str) -> dict[str, str] | str:
    try:
        return codec.decode_headers(stored)
    except UnreadableMessage:
        return stored


def _wrapped(text: str, width: int, margin: str, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, _NARROWEST),
        initial_indent=margin if first is None else first,
        subsequent_indent=margin,
        drop_whitespace=True,
        break_on_hyphens=False,
    )


def _short(number: UUID | None) -> str:
    # The end of it: UUIDs of one minute begin alike.
    return f"…{str(number)[-8:]}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}… ({len(text):,} characters)"
