"""Lead from a message to the process instance that it is for, and from there to what blocks it.

An instance has no state column for "stuck": it is stuck while one of its deliveries has failed.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from outbox_inbox.contexts import Consumer, contexts
from outbox_inbox.models import Delivery, ProcessState

FAILED = Q(holds=True, attempts__gt=0) | Q(state="dead")
"""A delivery that is dead, or backs off after a failure; not one that an operator has retried."""
STUCK = Exists(
    Delivery.objects.filter(
        FAILED, context=OuterRef("context"), consumer=OuterRef("process"), key=OuterRef("key")
    )
)
"""The condition on an instance of which a delivery has failed."""

_NEVER = datetime.max.replace(tzinfo=UTC)
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)


class TimeOut(NamedTuple):
    """A pending time-out; one that cannot be read has only its text."""

    name: str
    at: datetime | None
    message: UUID | None


def pending_time_outs(text: str) -> list[TimeOut]:
    """Return the pending time-outs of an instance, the next one first."""
    try:
        found = [
            TimeOut(name, datetime.fromisoformat(each["at"]), UUID(each["id"]))
            for name, each in json.loads(text).items()
        ]
        return sorted(found, key=lambda each: each.at or _NEVER)
    except _UNREADABLE:
        return [TimeOut(text[:200], None, None)]


def early_messages(text: str) -> list[tuple[str, UUID]]:
    """Return type and id of the messages received before the start, if they can be read."""
    try:
        return [(str(each["type"]), UUID(each["id"])) for each in json.loads(text)]
    except _UNREADABLE:
        return []


def processes() -> list[Consumer]:
    """Return the processes of all contexts."""
    return [
        each for context in contexts() for each in context.all_consumers if each.kind == "process"
    ]


def process_of(name: str) -> str | None:
    """Return the process that a consumer is, or that a message type is a time-out of."""
    asked = name.removesuffix(".TimedOut")
    return next((each.name for each in processes() if each.name == asked), None)


def find_instance(using: str, context: str, process: str, key: str | None) -> ProcessState | None:
    """Return the instance of this key, if there is one; an index serves it."""
    if key is None:
        return None
    rows = ProcessState.objects.using(using).defer("state", "early")
    return rows.filter(context=context, process=process, key=key).first()


def failed_deliveries(rows: Sequence[ProcessState]) -> dict[int, Delivery]:
    """Return the first failed delivery of each instance that has one; one query."""
    if not rows:
        return {}
    found: Iterable[Delivery] = (
        Delivery.objects.using(rows[0]._state.db or "default")
        .filter(
            FAILED,
            context__in={row.context for row in rows},
            consumer__in={row.process for row in rows},
            key__in={row.key for row in rows},
        )
        .select_related("message")
        .defer("message__payload", "message__headers")
        .order_by("-pk")
    )
    first = {(each.context, each.consumer, each.key): each for each in found}
    named = {row.pk: first.get((row.context, row.process, row.key)) for row in rows}
    return {pk: delivery for pk, delivery in named.items() if delivery is not None}
