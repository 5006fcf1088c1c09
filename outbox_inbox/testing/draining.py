"""Run the queues dry in a test, and tell what went wrong."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import (
    Checkpoint,
    DeliveryAttempt,
    DeliveryState,
    OutboxMessage,
    OutboxState,
    Queue,
)
from outbox_inbox.operations import MoverTurn, QueueStats, mover_turns, queue_stats
from outbox_inbox.queues.outcome import Outcome

from .clock import bring_next

_MOST = 10_000  # a process that sets its time-out by the real clock never comes to an end
_PATIENCE = timedelta(seconds=5)  # for a worker that the test itself has started


class DrainFailed(AssertionError):
    """Something failed while a test drained the queues.

    Attributes:
        failures: a text for each failed attempt, with its traceback.
    """

    def __init__(self, title: str, failures: list[str]) -> None:
        super().__init__("\n\n".join([title, *failures]))
        self.failures = failures


def drain(*, until: datetime | None = None, raise_errors: bool = True) -> Outcome:
    """Relay, receive, dispatch and project everywhere until all is quiet.

    What is scheduled, backs off or is parked stays where it is; `advance` lets it come due, and
    so does ``until`` with what is scheduled. A handler that fails is not tried again.

    Arguments:
        until: an aware datetime; what is scheduled up to then (time-outs of processes, what was
            recorded with ``at=``) comes due as well, one moment after the other, and all is quiet
            in between. Default: nothing does. Only the queues take this for the time: the code of
            the project needs a clock of its own to be told of it.
        raise_errors: raise at the first mover's turn in which something failed (default), or go
            on with what else there is.

    Returns:
        What was done altogether.

    Raises:
        DrainFailed: an attempt failed, a transport is out of reach, or something is left in a
            queue since a partition is paused, backing off or in use. Never with ``raise_errors=False``.
    """
    if until is not None and timezone.is_naive(until):
        raise ValueError(f"until={until!r}; expected an aware datetime")
    total = _drain(raise_errors=raise_errors)
    moments = 0
    while until is not None and bring_next(until):
        moments += 1
        if moments > _MOST:
            raise DrainFailed(f"more than {_MOST} moments until {until}, and no end", [])
        total += _drain(raise_errors=raise_errors)
    return total


def _drain(*, raise_errors: bool) -> Outcome:
    seen = _last_attempts()
    total = Outcome()
    for step in mover_turns(contexts(), patience=_PATIENCE):
        total += step.outcome
        if raise_errors:
            _check(step, seen)
    if raise_errors:
        _check_quiet()
    return total


def _check(step: MoverTurn, seen: dict[str, int]) -> None:
    if step.unreachable:
        raise DrainFailed(f"the transport of {step.context.label!r}: {step.unreachable}", [])
    if step.mover == "project" and step.outcome.failed:
        failures = list(_projections(step.context))
        raise DrainFailed(f"{len(failures)} projections failed in {step.context.label!r}", failures)
    if step.outcome.failed or step.outcome.dead:
        failures = list(_failures(step.context, seen[step.context.database]))
        raise DrainFailed(f"{len(failures)} failed in {step.context.label!r}", failures)


def _check_quiet() -> None:
    left = [text for stats in queue_stats() for text in _left(stats)]
    if left:
        raise DrainFailed("not all is quiet", left)


def _left(stats: QueueStats) -> Iterator[str]:
    idle = stats.depth.get("pending", 0) + stats.depth.get("ready", 0)
    if idle:
        reasons = [
            f"partition {each.number} is {each.state}" + (f": {each.reason}" if each.reason else "")
            for each in stats.partitions
        ]
        why = "; ".join(reasons) or "somebody else is at work there"
        yield f"{stats.context} {stats.queue.value}: {idle} left: {why}"
    for each in stats.partitions:
        # What there is to be received is unknown while nobody may ask.
        if each.queue == Queue.INTAKE and each.state == "backing off":
            yield f"{stats.context} intake: partition {each.number} is backing off: {each.reason}"


def _projections(context: Context) -> Iterator[str]:
    rows = Checkpoint.objects.using(context.database).filter(context=context.label, failures__gt=0)
    for row in rows.order_by("subscription"):
        yield f"{row.subscription}, to be tried again: {row.error}"


def _last_attempts() -> dict[str, int]:
    """Return the newest failed attempt of each database, so that older ones are not told again."""
    return {
        using: DeliveryAttempt.objects.using(using)
        .order_by("-pk")
        .values_list("pk", flat=True)
        .first()
        or 0
        for using in {context.database for context in contexts()}
    }


def _failures(context: Context, seen: int) -> Iterator[str]:
    attempts = DeliveryAttempt.objects.using(context.database).filter(
        pk__gt=seen, delivery__context=context.label
    )
    for attempt in attempts.select_related("delivery__message").order_by("pk"):
        delivery, message = attempt.delivery, attempt.delivery.message
        fate = "dead" if delivery.state == DeliveryState.DEAD else "to be tried again"
        yield (
            f"{delivery.consumer} on {message.type} {message.message_id} (key {message.key!r}), "
            f"attempt {attempt.number}, {fate}: {attempt.error}\n{attempt.traceback}"
        )
    outbox = OutboxMessage.objects.using(context.database).filter(
        context=context.label, attempts__gt=0, state__in=[OutboxState.PENDING, OutboxState.DEAD]
    )
    for row in outbox.order_by("pk"):
        fate = "dead" if row.state == OutboxState.DEAD else "to be tried again"
        yield (
            f"the outbox of {context.label} on {row.type} {row.message_id} (key {row.key!r}), "
            f"attempt {row.attempts}, {fate}: {row.error}"
        )
