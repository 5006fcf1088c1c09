"""From events to rows: ids, keys, causes and payloads, with every check and without any SQL.

All checks come before the first statement. A value that is refused only by the database would break the
caller's transaction, and with it the state that the event reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zlib import crc32

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.conf import settings
from outbox_inbox.conf.times import time_problem
from outbox_inbox.contexts import Context
from outbox_inbox.events import DomainEvent, IntegrationEvent, codec, key_of, meta
from outbox_inbox.events.envelope import Handling
from outbox_inbox.events.uuid7 import uuid7
from outbox_inbox.exceptions import HopLimitExceeded, InvalidEvent
from outbox_inbox.queues import statements
from outbox_inbox.queues.statements.dialects import time_parameter

Event = DomainEvent | IntegrationEvent

MAX_KEY = 200
_NO_HEADERS = "{}"


@dataclass(frozen=True, slots=True)
class Terms:
    """The arguments of ``record()`` that are the same for all its events, and both sources."""

    key: str | None = None
    at: datetime | None = None
    headers: Mapping[str, str] | None = None
    message_id: UUID | None = None


def prepare_rows(
    context: Context,
    events: Sequence[Event],
    terms: Terms,
    cause: Handling | None,
    connection: BaseDatabaseWrapper,
) -> list[statements.EventRow]:
    """Return the rows of events, after every check, and without any SQL; raises as `record`."""
    hops = _hops(cause)
    headers = codec.encode_headers(terms.headers) if terms.headers else _NO_HEADERS
    due_at = time_parameter(connection, _due(terms.at))
    rows: list[statements.EventRow] = []
    problems: list[str] = []
    for event in events:
        try:
            rows.append(_prepare_row(context, event, terms, cause, hops, headers, due_at))
        except InvalidEvent as error:
            problems += error.errors if len(events) == 1 else map(str, [error])
    if problems:
        raise InvalidEvent(", ".join(type(event).__name__ for event in events), problems)
    return rows


def hash_of(key: str | None, message_id: UUID) -> int:
    """Return the number that spreads messages over partitions; it must never change."""
    # With another hash the later messages of a key would go to another partition, ahead of others.
    return crc32((str(message_id) if key is None else key).encode())


def _prepare_row(
    context: Context,
    event: Event,
    terms: Terms,
    cause: Handling | None,
    hops: int,
    headers: str,
    due_at: Any,
) -> statements.EventRow:
    about = meta(event)
    if about.kind == "integration" and not context.publishes_class(type(event)):
        raise InvalidEvent(
            type(event).__name__,
            [f"{about.name} is not in `publishes` of the context {context.label!r}"],
        )
    message_id = terms.message_id or uuid7()
    payload = codec.encode(event)  # before the key, which is made of values that are checked here
    key = _checked_key(event, key_of(event) if terms.key is None else terms.key)
    key_hash = hash_of(key, message_id)
    return statements.EventRow(
        context=context.label,
        message_id=message_id,
        type=context.type_name(type(event)),
        schema_version=about.version,
        key=key,
        payload=payload,
        headers=headers,
        correlation_id=cause.envelope.correlation_id if cause else message_id,
        causation_id=cause.envelope.id if cause else None,
        hops=hops,
        key_hash=key_hash,
        kind=about.kind,
        due_at=due_at,
    )


def _hops(cause: Handling | None) -> int:
    if cause is None:
        return 0
    limit = settings().max_hops
    if cause.hops >= limit:
        raise HopLimitExceeded(
            f"the message {cause.envelope.id} is the end of a chain of {cause.hops} messages, and "
            f'OUTBOX_INBOX["MAX_HOPS"] is {limit}. Handlers probably answer each other without end.'
        )
    return cause.hops + 1


def _due(at: datetime | None) -> datetime | None:
    if at is not None and (problem := time_problem(at)):
        raise InvalidEvent("record()", [f"at is {at!r}; {problem}"])
    return at


def _checked_key(event: Event, key: object) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        problem = f"its key must be text, not {key!r}"
    elif not key:
        problem = "its key is empty; an event without order has no key (None)"
    elif len(key) > MAX_KEY:
        problem = f"its key has {len(key)} characters, the limit is {MAX_KEY}"
    elif (wrong := codec.text_problem(key)) is not None:
        problem = f"its key {key!r} {wrong}"
    else:
        return key
    raise InvalidEvent(type(event).__name__, [problem])
