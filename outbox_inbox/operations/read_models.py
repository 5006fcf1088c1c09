"""What operators see of read models: how far each is behind, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import Checkpoint
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.dialects import as_datetime, database_time
from outbox_inbox.streams.subscriptions import behind

from .rebuilding import REBUILD_SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModelStats:
    """One read model at one moment.

    Fields:
        context, name, database: which one: label, name, alias.
        lag: how many events of its stream it has still to handle.
        oldest: age of the first of them in seconds, by the database's clock; None: there are none.
        state: "working", "paused" by an operator, or "backing off" after a failure.
        error: the failure, or empty.
        failures: failed attempts in a row.
        until: when one that is backing off is tried again.
        rebuilding: a rebuild has begun and is not finished.
    """

    context: str
    name: str
    database: str
    lag: int
    oldest: float | None
    state: str
    error: str = ""
    failures: int = 0
    until: datetime | None = None
    rebuilding: bool = False


def read_model_stats(chosen: Iterable[Context] | None = None) -> list[ReadModelStats]:
    """Return the state of the read models of contexts; it takes no locks.

    Arguments:
        chosen: which contexts; None (default) means all.
    """
    wanted = contexts() if chosen is None else chosen
    return [each for context in wanted for each in _stats(context)]


def _stats(context: Context) -> Iterator[ReadModelStats]:
    connection = connections[context.database]
    if not context.read_models or not checkpoints.supports_subscriptions(connection):
        return
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    found = {each.subscription: each for each in rows}
    now = database_time(connection)
    for name, read_model in context.read_models.items():
        row, lag = found.get(name, Checkpoint()), behind(context, name, read_model.by_type)
        backing_off = row.retry_at is not None and as_datetime(connection, row.retry_at) > now
        yield ReadModelStats(
            context=context.label,
            name=name,
            database=context.database,
            lag=lag.events,
            oldest=None if lag.since is None else max((now - lag.since).total_seconds(), 0.0),
            state="paused" if row.paused else "backing off" if backing_off else "working",
            error=row.error,
            failures=row.failures,
            until=row.retry_at if backing_off else None,
            rebuilding=name + REBUILD_SUFFIX in found,
        )
