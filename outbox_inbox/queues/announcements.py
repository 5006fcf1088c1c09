"""Sends the signals of ``outbox_inbox.signals``.

Each function is called after the commit of what it announces: a receiver would otherwise hear of
something that a rollback undoes.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from outbox_inbox import signals
from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue

from .attempts import Verdict, error_line
from .statements import PendingRow, ReadyRow
from .statements.dialects import as_uuid


def message_sent(context: Context, partition: int, count: int) -> None:
    """Announce a batch of the relay."""
    signals.message_sent.send_robust(
        context.label, context=context.label, partition=partition, count=count
    )


def message_failed(context: Context, row: PendingRow, verdict: Verdict) -> None:
    """Announce an outbox message that is dead; one that will be tried again is not announced."""
    if verdict.dead:
        signals.message_dead.send_robust(
            context.label, **_about(context, row), attempts=verdict.attempts, error=verdict.error
        )


def partition_backed_off(
    context: Context, queue: Queue, partition: int, error: Exception, delay: timedelta
) -> None:
    """Announce an outage."""
    signals.partition_backed_off.send_robust(
        context.label,
        context=context.label,
        queue=queue.value,
        partition=partition,
        error=error_line(error),
        delay=delay,
    )


def delivery_failed(context: Context, row: ReadyRow, verdict: Verdict) -> None:
    """Announce a failed attempt, or a dead letter if it was the last."""
    measures = {
        **_about(context, row),
        "consumer": row.consumer,
        "attempts": verdict.attempts,
        "error": verdict.error,
    }
    if verdict.dead:
        signals.delivery_dead.send_robust(context.label, **measures)
    else:
        delay = timedelta(seconds=verdict.seconds)
        signals.delivery_failed.send_robust(context.label, **measures, delay=delay)


def projection_failed(
    context: Context, projection: str, error: Exception, delay: timedelta
) -> None:
    """Announce a projection that failed on an event."""
    signals.projection_failed.send_robust(
        context.label,
        context=context.label,
        projection=projection,
        error=error_line(error),
        delay=delay,
    )


def message_quarantined(
    context: Context, attributes: Mapping[str, str], reason: str, error: str
) -> None:
    """Announce a message that was quarantined."""
    signals.message_quarantined.send_robust(
        context.label,
        context=context.label,
        source=attributes.get("source", ""),
        type=attributes.get("type", ""),
        message_id=attributes.get("id", ""),
        reason=str(reason),
        error=error,
    )


def hook_failed(context: Context, row: ReadyRow, error: Exception) -> None:
    """Announce an on_commit hook that raised."""
    signals.hook_failed.send_robust(
        context.label,
        **_about(context, row),
        consumer=row.consumer,
        error=error_line(error),
    )


def _about(context: Context, row: PendingRow | ReadyRow) -> dict[str, Any]:
    return {
        "context": context.label,
        "message_id": as_uuid(row.message_id),
        "type": row.type,
        "key": row.key,
    }
