"""Consumers that the code does not have any more: what they left, and how they are retired.

A consumer is known by its name. When it was renamed, put together with others or removed while it
had unfinished deliveries, no process handles these: they are reported until an operator decides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import UnknownName
from outbox_inbox.models import Delivery, InboxMessage, Interest, InterestKind, Queue
from outbox_inbox.queues.interests import declared
from outbox_inbox.queues.statements.dialects import as_datetime, database_time, stored_time

from .selection import has_state
from .stats import MOST_COUNTED


class UnknownConsumer(UnknownName):
    """A name is not that of a consumer that the operation can be used with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneConsumer:
    """A consumer with unfinished deliveries that the code of this process does not have.

    Fields:
        unfinished: how many deliveries it has left, counted up to `MOST_COUNTED`.
        minimum: it has left more than that.
        confirmed: seconds since a process last said that it has it.
        retired_at: since when it gets no more deliveries; None: it still gets them.
    """

    context: str
    consumer: str
    unfinished: int
    minimum: bool
    confirmed: float
    retired_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """A consumer, read model or subscription that was retired.

    Fields:
        types: how many types of events it wanted.
        unfinished: the deliveries that it leaves, counted up to `MOST_COUNTED`.
        minimum: it leaves more than that.
        confirmed: seconds since a process last said that it has it.
    """

    context: str
    name: str
    types: int
    unfinished: int
    minimum: bool
    confirmed: float


def gone_consumers(chosen: Iterable[Context] | None = None) -> list[GoneConsumer]:
    """Return the consumers that this process's code does not have, with what they left unfinished.

    A consumer of newer code, which is being deployed, is among them.

    Arguments:
        chosen: which contexts; None (default) means all.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    return [each for context in wanted for each in _gone_of(context)]


def unfinished_of(context: Context, consumers: Sequence[str]) -> QuerySet[Delivery]:
    """Return the unfinished deliveries of consumers, by their names."""
    rows = Delivery.objects.using(context.database).filter(has_state(Queue.INBOX, "unfinished"))
    return rows.filter(context=context.label, consumer__in=consumers)


def missed_by(context: Context, gone: GoneConsumer) -> int:
    """Return how many messages a retired consumer would have got since, at most `MOST_COUNTED` + 1."""
    if gone.retired_at is None:
        return 0
    types = _stored(context, InterestKind.CONSUMER).filter(name=gone.consumer).values_list("type")
    rows = InboxMessage.objects.using(context.database).filter(
        context=context.label, type__in=types, received_at__gte=gone.retired_at
    )
    return rows.order_by()[: MOST_COUNTED + 1].count()


def retire(context: Context, names: Sequence[str], only_type: str | None = None) -> list[Retired]:
    """Let consumers, read models or subscriptions get no more messages; what they left stays.

    One transaction on the context's database. A process that still has one of them brings it back.

    Arguments:
        names: of consumers, of read models, or of contracts that were subscribed to.
        only_type: only for this type of event; None (default) means all types.

    Raises:
        UnknownConsumer: a name is not known, or the code of this process has it.
    """
    rows = Interest.objects.using(context.database).filter(context=context.label, alias="")
    own = {row.identity for row in declared(context.database)}
    found: dict[str, list[Interest]] = {name: [] for name in names}
    known: set[str] = set()
    for row in rows.order_by("id"):
        name = row.name or row.type
        known.add(name)
        if name in found and only_type in (None, row.type):
            found[name].append(row)
    for name, interests in found.items():
        _refuse_known(context, name, only_type, interests, own, known)
    return [_retire_rows(context, name, interests) for name, interests in found.items()]


def _refuse_known(
    context: Context,
    name: str,
    only_type: str | None,
    interests: Sequence[Interest],
    own: set[tuple[str, ...]],
    known: set[str],
) -> None:
    what = f"{name!r} of {only_type!r}" if only_type else repr(name)
    if not interests:
        raise UnknownConsumer(
            f"{context.label!r} never had a consumer, read model or subscription {what}"
            f"{suggestion(name, sorted(known))}"
        )
    if any((row.context, row.kind, row.name, row.type) in own for row in interests):
        raise UnknownConsumer(
            f"the code of this process has {what} of {context.label!r}: remove it there first; or "
            "name one type with --type that it does not take any more"
        )


def _retire_rows(context: Context, name: str, interests: Sequence[Interest]) -> Retired:
    connection = connections[context.database]
    now = database_time(connection)
    rows = Interest.objects.using(context.database)
    left = rows.filter(pk__in=[row.pk for row in interests], retired_at=None)
    left.update(retired_at=stored_time(now))
    last = max(as_datetime(connection, row.confirmed_at) for row in interests)
    unfinished, minimum = _count(unfinished_of(context, [name]))
    return Retired(
        context=context.label,
        name=name,
        types=len(interests),
        unfinished=unfinished,
        minimum=minimum,
        confirmed=(now - last).total_seconds(),
    )


def _gone_of(context: Context) -> Iterator[GoneConsumer]:
    connection = connections[context.database]
    found: dict[str, list[Interest]] = {}
    for row in _stored(context, InterestKind.CONSUMER).exclude(name__in=list(context.consumers)):
        found.setdefault(row.name, []).append(row)
    for name, rows in sorted(found.items()):
        # By its name: the partial indexes have the unfinished deliveries of all consumers.
        unfinished, minimum = _count(unfinished_of(context, [name]))
        if unfinished:
            last = max(as_datetime(connection, row.confirmed_at) for row in rows)
            retired = [row.retired_at for row in rows if row.retired_at is not None]
            yield GoneConsumer(
                context=context.label,
                consumer=name,
                unfinished=unfinished,
                minimum=minimum,
                confirmed=(database_time(connection) - last).total_seconds(),
                retired_at=as_datetime(connection, max(retired))
                if len(retired) == len(rows)
                else None,
            )


def _count(rows: QuerySet[Any]) -> tuple[int, bool]:
    """Return how many rows there are, up to `MOST_COUNTED`, and whether there are more."""
    found = rows.order_by()[: MOST_COUNTED + 1].count()
    return min(found, MOST_COUNTED), found > MOST_COUNTED


def _stored(context: Context, kind: InterestKind) -> QuerySet[Interest]:
    rows = Interest.objects.using(context.database)
    return rows.filter(context=context.label, kind=kind).order_by("id")
