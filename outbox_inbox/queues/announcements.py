"""Sends the signals, each after the commit of what it announces: a rollback would undo it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.dispatch import Signal

from outbox_inbox import signals
from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue
from outbox_inbox.signals.escaping import MOST

from .attempts import Verdict, cut, error_line, line_of
from .statements import PendingRow, ReadyRow
from .statements.dialects import as_uuid


def message_sent(context: Context, partition: int, count: int) -> None:
    """Announce a batch of the relay."""
    _send(signals.message_sent, context, partition=partition, count=count)


def message_failed(context: Context, row: PendingRow, verdict: Verdict) -> None:
    """Announce an outbox message that is dead; one that will be tried again is not announced."""
    if verdict.dead:
        measures = {**_about(row), "attempts": verdict.attempts, "error": verdict.error}
        _send(signals.message_dead, context, **measures)


def partition_backed_off(
    context: Context, queue: Queue, partition: int, error: Exception, delay: timedelta
) -> None:
    """Announce an outage."""
    measures = {"queue": queue.value, "partition": partition, "error": error_line(error)}
    _send(signals.partition_backed_off, context, **measures, delay=delay)


def database_read_only(context: Context, error: Exception) -> None:
    """Announce that the database of a context can be read, but not written."""
    measures = {"database": context.database, "error": error_line(error)}
    _send(signals.database_read_only, context, **measures)


def delivery_failed(context: Context, row: ReadyRow, verdict: Verdict) -> None:
    """Announce a failed attempt, or a dead letter if it was the last."""
    measures = {**_about(row), "attempts": verdict.attempts, "error": verdict.error}
    if verdict.dead:
        _send(signals.delivery_dead, context, **measures)
    else:
        delay = timedelta(seconds=verdict.seconds)
        _send(signals.delivery_failed, context, **measures, delay=delay)


def projection_failed(
    context: Context, projection: str, error: Exception, delay: timedelta
) -> None:
    """Announce a projection that failed on an event."""
    measures = {"projection": projection, "error": error_line(error), "delay": delay}
    _send(signals.projection_failed, context, **measures)


def message_quarantined(label: str, attributes: Mapping[str, str], reason: str, error: str) -> None:
    """Announce a message that was quarantined."""
    names = {"source": "source", "type": "type", "message_id": "id"}
    # A receiver may count by type, or log it: its sender must not choose how much that is.
    measures = {name: cut(str(attributes.get(its, "")), MOST) for name, its in names.items()}
    measures |= {"reason": str(reason), "context": label, "error": line_of(error)}
    signals.message_quarantined.send_robust(label, **measures)


def hook_failed(context: Context, row: ReadyRow, error: Exception) -> None:
    """Announce an on_commit hook that raised."""
    _send(signals.hook_failed, context, **_about(row), error=error_line(error))


def _send(signal: Signal, context: Context, **measures: Any) -> None:
    signal.send_robust(context.label, context=context.label, **measures)


def _id_of(row: PendingRow | ReadyRow) -> UUID | str:
    try:
        return as_uuid(row.message_id)
    except (ValueError, TypeError, AttributeError):
        # Spoilt by hand: an error here would stop the mover, and with it all other messages.
        return str(row.message_id)


def _about(row: PendingRow | ReadyRow) -> dict[str, Any]:
    about = {"message_id": _id_of(row), "type": row.type, "key": row.key}
    return {**about, "consumer": row.consumer} if isinstance(row, ReadyRow) else about
