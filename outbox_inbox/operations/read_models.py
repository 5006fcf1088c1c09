"""What operators see of read models: how far each is behind, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from outbox_inbox.contexts import Context, ReadModel, contexts
from outbox_inbox.models import Checkpoint
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.dialects import as_datetime, database_time
from outbox_inbox.queues.statements.times import is_resting
from outbox_inbox.streams.subscriptions import Lag, behind

from .rebuilding import REBUILD_SUFFIX
from .stats import MOST_COUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModelStats:
    """One read model at one moment.

    Fields:
        context, name, database: which one: label, name, alias.
        lag: how many events of its stream it has still to handle.
        oldest: age of the first of them in seconds, by the database's clock; None: there are none.
        state: "working", "paused" by an operator, or "backing off" from a failure until the next
            success.
        error: the failure, or empty.
        failures: failed attempts in a row.
        until: when one that is backing off is tried again; None: the next try is due.
        rebuilding: a rebuild has begun and is not finished.
        minimums: {"lag"} if it was counted up to its limit, while there are more events.
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
    minimums: frozenset[str] = frozenset()

    def is_minimum(self, figure: str) -> bool:
        """Return whether there is more than a figure says."""
        return figure in self.minimums


def read_model_stats(
    chosen: Iterable[Context] | None = None, *, most: int = MOST_COUNTED
) -> list[ReadModelStats]:
    """Return the state of the read models of contexts; it takes no locks.

    Arguments:
        chosen: which contexts; None (default) means all.
        most: count up to so many events; default 10,000.
    """
    wanted = contexts() if chosen is None else chosen
    return [each for context in wanted for each in _stats(context, most)]


def _stats(context: Context, most: int) -> Iterator[ReadModelStats]:
    connection = connections[context.database]
    if not context.read_models or not checkpoints.supports_subscriptions(connection):
        return
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    found = {each.subscription: each for each in rows}
    now = database_time(connection)
    for name, read_model in context.read_models.items():
        row, lag = found.get(name, Checkpoint()), _lag(context, name, read_model, most)
        until = None if row.retry_at is None else as_datetime(connection, row.retry_at)
        left = None if until is None else (until - now).total_seconds()
        resting = is_resting(left, row.failures)
        # Also between the end of the pause and the next success: the failure is not over yet.
        backing_off = resting or row.failures > 0
        yield ReadModelStats(
            context=context.label,
            name=name,
            database=context.database,
            lag=min(lag.events, most),
            oldest=None if lag.since is None else max((now - lag.since).total_seconds(), 0.0),
            state="paused" if row.paused else "backing off" if backing_off else "working",
            error=row.error,
            failures=row.failures,
            until=row.retry_at if resting else None,
            rebuilding=name + REBUILD_SUFFIX in found,
            minimums=frozenset({"lag"} if lag.events > most else ()),
        )


def _lag(context: Context, name: str, read_model: ReadModel, most: int) -> Lag:
    return behind(context, name, read_model.by_type, most=most + 1)
