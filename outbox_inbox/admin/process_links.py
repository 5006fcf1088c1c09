"""Lead from a message to the process instance that it is for, and from there to what blocks it.

An instance has no state column for "stuck": it is stuck while one of its deliveries has failed. A
process that fails at its start has no instance, and only its delivery shows that it is stuck.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
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

_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)


def pending_time_outs(text: str) -> Sequence[tuple[str, datetime | None, UUID | None]]:
    """Return name, time and message of each pending time-out, or the text if it is unreadable."""
    try:
        found = [
            (name, datetime.fromisoformat(each["at"]), UUID(each["id"]))
            for name, each in json.loads(text).items()
        ]
        return sorted(found, key=itemgetter(1))
    except _UNREADABLE:
        return [(text[:200], None, None)]


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
    found = (
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
    keys = {row.pk: (row.context, row.process, row.key) for row in rows}
    return {pk: first[key] for pk, key in keys.items() if key in first}


def failed_without_instance(using: str, most: int, **wanted: str | None) -> list[Delivery]:
    """Return failed deliveries to processes that have no instance of their key, the newest first.

    The first step of an instance also stores its row: where that step fails, there is no row that
    could be stuck. The same holds for a process that takes its key from another field (``by=``).

    Arguments:
        most: return up to so many.
        wanted: values of the columns ``context``, ``consumer`` and ``key``; None does not restrict.
    """
    same = {"context": OuterRef("context"), "process": OuterRef("consumer"), "key": OuterRef("key")}
    given = {name: value for name, value in wanted.items() if value}
    found = (
        Delivery.objects.using(using)
        .filter(FAILED, consumer__in=[each.name for each in processes()])
        .filter(~Exists(ProcessState.objects.filter(**same)), **given)
    )
    rows = found.select_related("message").defer("message__payload", "message__headers")
    return list(rows.order_by("-pk")[:most])
