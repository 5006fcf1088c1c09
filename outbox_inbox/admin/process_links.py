"""What leads from a message to the instance of a process that it is for, and back."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from outbox_inbox.contexts import Consumer, contexts
from outbox_inbox.models import Delivery, ProcessState

IN_THE_WAY = Q(holds=True, attempts__gt=0) | Q(state="dead")
"""A delivery that has failed: dead, or tried again later; one that a person retries has not."""


_NEVER = datetime.max.replace(tzinfo=UTC)


class TimeOut(NamedTuple):
    """A time-out that is pending; of one that cannot be read there is only the text."""

    name: str
    at: datetime | None
    message: UUID | None


def time_outs(text: str) -> list[TimeOut]:
    """Return the pending time-outs of an instance, the next one first."""
    try:
        found = [
            TimeOut(name, datetime.fromisoformat(each["at"]), UUID(each["id"]))
            for name, each in json.loads(text).items()
        ]
        return sorted(found, key=lambda each: each.at or _NEVER)
    except (ValueError, TypeError, KeyError, AttributeError):
        return [TimeOut(text[:200], None, None)]


def kept_early(text: str) -> list[tuple[str, UUID]]:
    """Return type and id of the messages that came before the start, as far as they can be read."""
    try:
        return [(str(each["type"]), UUID(each["id"])) for each in json.loads(text)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def processes() -> list[Consumer]:
    """Return the processes of all contexts."""
    return [
        each for context in contexts() for each in context.all_consumers if each.kind == "process"
    ]


def process_of(name: str) -> str | None:
    """Return the process that a consumer is, or that a type of messages is a time-out of."""
    asked = name.removesuffix(".TimedOut")
    return next((each.name for each in processes() if each.name == asked), None)


def instance(using: str, context: str, process: str, key: str | None) -> ProcessState | None:
    """Return the instance of this key, if there is one; from an index."""
    if key is None:
        return None
    rows = ProcessState.objects.using(using).defer("state", "early")
    return rows.filter(context=context, process=process, key=key).first()


def stuck(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return those instances of which a delivery has failed."""
    failed = Delivery.objects.using(rows.db).filter(
        IN_THE_WAY,
        context=OuterRef("context"),
        consumer=OuterRef("process"),
        key=OuterRef("key"),
    )
    return rows.filter(Exists(failed))


def failed_deliveries(rows: Sequence[ProcessState]) -> dict[int, Delivery]:
    """Return for each instance the first delivery that has failed, if there is one; one query."""
    if not rows:
        return {}
    found: Iterable[Delivery] = (
        Delivery.objects.using(rows[0]._state.db or "default")
        .filter(
            IN_THE_WAY,
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
