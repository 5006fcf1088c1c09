"""What operators see of read models, and their switch: how far each is behind, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connections

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint
from outbox_inbox.queues.statements import checkpoints
from outbox_inbox.queues.statements.dialects import as_datetime, dialect
from outbox_inbox.queues.statements.moved import refusals_explained
from outbox_inbox.streams.subscriptions import behind

from .rebuilding import BESIDE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModelStats:
    """One read model at one moment.

    Fields:
        context: label of the context.
        name: of the read model.
        database: alias of the database.
        lag: how many events of its stream it has still to take in.
        oldest: age of the first of them in seconds, by the database's clock; None: there is none.
        state: "working", "paused" by an operator, or "resting" after a failure.
        error: the failure, or empty.
        failures: failed tries in a row.
        until: when a resting one is tried again.
        rebuilding: a rebuild was begun, and is not finished.
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
    wanted = contexts() if chosen is None else tuple(chosen)
    return [each for context in wanted for each in _stats(context)]


def _stats(context: Context) -> Iterator[ReadModelStats]:
    connection = connections[context.database]
    if not context.read_models or not checkpoints.supports_subscriptions(connection):
        return
    rows = Checkpoint.objects.using(context.database).filter(context=context.label)
    found = {each.subscription: each for each in rows}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {dialect(connection).now}", [])
        now = as_datetime(connection, cursor.fetchone()[0])
    for name, read_model in context.read_models.items():
        row, lag = found.get(name, Checkpoint()), behind(context, name, read_model.by_type)
        resting = row.retry_at is not None and as_datetime(connection, row.retry_at) > now
        yield ReadModelStats(
            context=context.label,
            name=name,
            database=context.database,
            lag=lag.events,
            oldest=None if lag.since is None else max((now - lag.since).total_seconds(), 0.0),
            state="paused" if row.paused else "resting" if resting else "working",
            error=row.error,
            failures=row.failures,
            until=row.retry_at if resting else None,
            rebuilding=name + BESIDE in found,
        )


def pause_read_models(context: Context, names: Iterable[str]) -> int:
    """Let nobody bring read models up to date until `resume_read_models`; return how many changed.

    It waits for the transaction that a worker is in.

    Raises:
        OutboxInboxError: the context has no read model of a name.
    """
    return _switch(context, names, paused=True)


def resume_read_models(context: Context, names: Iterable[str]) -> int:
    """Let workers go on, at once: also where a failure has a read model rest.

    Raises: as `pause_read_models`.
    """
    return _switch(context, names, paused=False)


def _switch(context: Context, names: Iterable[str], *, paused: bool) -> int:
    wanted = list(names)
    for name in wanted:
        if name not in context.read_models:
            raise OutboxInboxError(
                f"{context.label!r} has no read model {name!r}{suggestion(name, context.read_models)}"
            )
    rows = Checkpoint.objects.using(context.database)
    rows = rows.filter(context=context.label, subscription__in=wanted)
    with refusals_explained():
        count = rows.exclude(paused=paused).update(paused=paused)
        if not paused:
            rows.update(retry_at=None, failures=0, error="")
    return count
