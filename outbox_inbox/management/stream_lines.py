"""Write the events of a stream as lines for people, and as parts of a JSON document."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from outbox_inbox.events import codec
from outbox_inbox.exceptions import UnreadableMessage
from outbox_inbox.operations import StreamEntry
from outbox_inbox.signals.escaping import json_text, visible

MOST_OF_VALUE = 2_000
"""Characters of one value in a line for people; the JSON document has all of them."""

_LEAST_WIDTH = 40


def event_lines(entry: StreamEntry, digits: int, width: int) -> Iterator[str]:
    """Yield the lines about one event.

    Arguments:
        digits: of the longest version.
        width: characters of a line.
    """
    when = visible(entry.time) if isinstance(entry.time, str) else f"{entry.time:%Y-%m-%d %H:%M:%S}"
    cause = f"  caused by {_short_id(entry.causation_id)}" if entry.causation_id else ""
    key = "" if entry.key is None else f"key {visible(entry.key, MOST_OF_VALUE)}  "
    if entry.data is not None:
        content = ["  ".join(_fields(entry.data))]
    else:
        payload = visible(entry.payload, MOST_OF_VALUE)
        content = [
            f"cannot be read: {visible(entry.problem or '', MOST_OF_VALUE)}",
            f"payload {payload}",
        ]
    head = f"{entry.version:>{digits}}  {when}  {visible(entry.type)} v{entry.schema_version}"
    margin = " " * (digits + 2)
    for text in (head, *content, f"{key}correlation {_short_id(entry.correlation_id)}{cause}"):
        yield from textwrap.wrap(
            text,
            max(width, _LEAST_WIDTH),
            initial_indent="" if text is head else margin,
            subsequent_indent=margin,
            break_on_hyphens=False,
        )


def event_json(entry: StreamEntry) -> str:
    """Return one event as JSON on one line."""
    found: dict[str, Any] = {
        "version": entry.version,
        "position": entry.position,
        "time": entry.time if isinstance(entry.time, str) else entry.time.isoformat(),
        "id": str(entry.id),
        "type": entry.type,
        "schema_version": entry.schema_version,
        "key": entry.key,
        "correlation_id": str(entry.correlation_id),
        "causation_id": None if entry.causation_id is None else str(entry.causation_id),
        "headers": _headers(entry.headers),
    }
    if entry.data is not None:
        return json_text({**found, "data": json.loads(entry.data)})
    return json_text({**found, "data": None, "problem": entry.problem, "payload": entry.payload})


def _fields(data: str) -> Iterator[str]:
    for name, value in json.loads(data).items():
        yield f"{name} {visible(json_text(value), MOST_OF_VALUE)}"


def _headers(stored: str) -> dict[str, str] | str:
    try:
        return codec.decode_headers(stored)
    except UnreadableMessage:
        return stored


def _short_id(number: UUID | str) -> str:
    # Its end: UUIDs of the same minute begin alike.
    return f"…{visible(str(number)[-8:])}"
