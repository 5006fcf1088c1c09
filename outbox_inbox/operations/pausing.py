"""The operator's switch: pause and resume partitions of queues, and read models."""

from collections.abc import Iterable
from typing import Any

from django.db.models import QuerySet

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint, Partition, Queue
from outbox_inbox.queues.partitions import ensure_partitions, operator_lock
from outbox_inbox.queues.statements.moved import refusals_explained


def pause(context: Context, queue: Queue, numbers: Iterable[int] | None = None) -> int:
    """Keep workers away from partitions of a queue until `resume`; return how many changed.

    It waits for the transaction that a worker is in; when it returns, no worker is active there.
    Messages are still recorded and received, and stay in the queue.

    Arguments:
        numbers: which partitions; None (default) means all.
    """
    return _switch_partitions(context, queue, numbers, paused=True)


def resume(context: Context, queue: Queue, numbers: Iterable[int] | None = None) -> int:
    """Let workers continue with partitions at once; return how many were paused before.

    A back-off after an outage ends as well.

    Raises:
        ContextMoved: the context is being transferred to another database, and is closed here.
    """
    return _switch_partitions(context, queue, numbers, paused=False)


def pause_read_models(context: Context, names: Iterable[str]) -> int:
    """Stop updating read models until `resume_read_models`; return how many changed.

    It waits for the transaction that a worker is in.

    Raises:
        OutboxInboxError: the context has no read model of a name.
    """
    return _switch_read_models(context, names, paused=True)


def resume_read_models(context: Context, names: Iterable[str]) -> int:
    """Undo `pause_read_models`; a back-off after a failure ends as well."""
    return _switch_read_models(context, names, paused=False)


def _switch_partitions(
    context: Context, queue: Queue, numbers: Iterable[int] | None, *, paused: bool
) -> int:
    ensure_partitions(context.database)
    wanted = None if numbers is None else list(numbers)
    rows = Partition.objects.using(context.database).filter(context=context.label, queue=queue)
    if wanted is not None:
        rows = rows.filter(number__in=wanted)
    with refusals_explained(), operator_lock(context, queue, wanted):
        return _switch_rows(rows, paused=paused, outages=0)


def _switch_read_models(context: Context, names: Iterable[str], *, paused: bool) -> int:
    wanted = list(names)
    for name in wanted:
        if name not in context.read_models:
            raise OutboxInboxError(
                f"{context.label!r} has no read model {name!r}{suggestion(name, context.read_models)}"
            )
    found = Checkpoint.objects.using(context.database).filter(context=context.label)
    with refusals_explained():
        return _switch_rows(found.filter(subscription__in=wanted), paused=paused, failures=0)


def _switch_rows(rows: QuerySet[Any], *, paused: bool, **failures: int) -> int:
    count: int = rows.exclude(paused=paused).update(paused=paused)
    if not paused:
        rows.update(retry_at=None, error="", **failures)
    return count
