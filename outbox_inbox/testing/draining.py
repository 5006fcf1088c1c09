"""Drains the queues in a test, and fails with the tracebacks of what went wrong."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from outbox_inbox.conf.times import time_problem
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import (
    Checkpoint,
    Delivery,
    DeliveryAttempt,
    Message,
    OutboxMessage,
    OutboxState,
    Queue,
)
from outbox_inbox.operations import MoverTurn, QueueStats, mover_turns, queue_stats
from outbox_inbox.operations.selection import IDLE
from outbox_inbox.queues.outcome import Outcome

from .clock import advance_to_next

_MOST = 10_000  # a process that sets its time-out by the real clock never finishes
_UNTOUCHED = "another worker has locked its partition, or the code has no consumer of them: the log names those"
_PATIENCE = timedelta(seconds=5)  # for a worker that the test itself has started


class DrainFailed(AssertionError):
    """Something failed while a test drained the queues.

    Attributes:
        failures: a text for each failed attempt, with its traceback.
    """

    def __init__(self, title: str, failures: Iterable[str] = ()) -> None:
        self.failures = list(failures)
        super().__init__("\n\n".join([title, *self.failures]))


def drain(*, until: datetime | None = None, raise_errors: bool = True) -> Outcome:
    """Relay, receive, dispatch and project everywhere until all is quiet.

    Messages that are scheduled, back off or are parked stay where they are; `advance` lets them
    come due, and ``until`` the scheduled ones. A handler that fails is not retried.

    Arguments:
        until: an aware datetime with a year from 2 to 9998; messages scheduled up to then (time-outs
            of processes, events recorded with ``at=``) come due as well, one time after the other,
            with a drain in between. Default: none do. Only the queues use this time: a clock in the
            code of the project must be set separately.
        raise_errors: raise after the first turn of a mover in which something failed (default), or
            continue with the others.

    Returns:
        The sum of all turns.

    Raises:
        DrainFailed: an attempt failed, a transport cannot be reached, or messages are left in a
            queue because a partition is paused, backing off or in use. Never with
            ``raise_errors=False``, unless ``until`` is never reached.
        ValueError: ``until`` is not such a datetime.
    """
    if until is not None and (problem := time_problem(until)):
        raise ValueError(f"until={until!r}; {problem}")
    total = _drain_once(raise_errors=raise_errors)
    for _ in range(_MOST + 1):
        if until is None or not advance_to_next(until):
            return total
        total += _drain_once(raise_errors=raise_errors)
    raise DrainFailed(
        f"more than {_MOST} scheduled times until {until}; a process may schedule without end"
    )


def _drain_once(*, raise_errors: bool) -> Outcome:
    # The newest failed attempt of each database: older ones are not reported again.
    rows = DeliveryAttempt.objects.order_by("-pk").values_list("pk", flat=True)
    seen = {each.database: rows.using(each.database).first() or 0 for each in contexts()}
    total = Outcome()
    for step in mover_turns(contexts(), patience=_PATIENCE):
        total += step.outcome
        if raise_errors:
            _check_turn(step, seen)
    left = [text for stats in queue_stats() for text in _leftovers(stats)] if raise_errors else []
    if left:
        raise DrainFailed("messages are left in the queues", left)
    return total


def _check_turn(step: MoverTurn, seen: dict[str, int]) -> None:
    if step.unreachable:
        raise DrainFailed(
            f"the transport of {step.context.label!r} cannot be reached: {step.unreachable}"
        )
    if step.mover == "project" and step.outcome.failed:
        failures = list(_projection_failures(step.context))
        raise DrainFailed(f"{len(failures)} projections failed in {step.context.label!r}", failures)
    if step.outcome.failed or step.outcome.dead:
        failures = list(_message_failures(step.context, seen[step.context.database]))
        raise DrainFailed(f"{len(failures)} failed in {step.context.label!r}", failures)


def _leftovers(stats: QueueStats) -> Iterator[str]:
    idle = stats.depth.get("pending", 0) + stats.depth.get("ready", 0)
    if idle:
        reasons = [
            f"partition {each.number} is {each.state}" + (f": {each.reason}" if each.reason else "")
            for each in stats.partitions
        ]
        why = "; ".join(reasons) or _UNTOUCHED
        more = "more than " * stats.is_minimum(IDLE[stats.queue])
        yield f"{stats.context} {stats.queue.value}: {more}{idle} left: {why}"
    for each in stats.partitions:
        # While the intake backs off, it is unknown whether there is something to receive.
        if each.queue == Queue.INTAKE and each.state == "backing off":
            yield f"{stats.context} intake: partition {each.number} is backing off: {each.reason}"


def _projection_failures(context: Context) -> Iterator[str]:
    rows = Checkpoint.objects.using(context.database).filter(context=context.label, failures__gt=0)
    for row in rows.order_by("subscription"):
        yield f"{row.subscription}, to be retried: {row.error}"


def _message_failures(context: Context, seen: int) -> Iterator[str]:
    attempts = DeliveryAttempt.objects.using(context.database).filter(
        pk__gt=seen, delivery__context=context.label
    )
    for attempt in attempts.select_related("delivery__message").order_by("pk"):
        text = _attempt_text(attempt.delivery, attempt.delivery.message, attempt.number)
        yield f"{attempt.delivery.consumer} on {text}: {attempt.error}\n{attempt.traceback}"
    outbox = OutboxMessage.objects.using(context.database).filter(
        context=context.label, attempts__gt=0, state__in=[OutboxState.PENDING, OutboxState.DEAD]
    )
    for row in outbox.order_by("pk"):
        text = _attempt_text(row, row, row.attempts)
        yield f"the outbox of {context.label} on {text}: {row.error}"


def _attempt_text(row: Delivery | OutboxMessage, message: Message, number: int) -> str:
    fate = "dead" if row.state == "dead" else "to be retried"
    return f"{message.type} {message.message_id} (key {message.key!r}), attempt {number}, {fate}"
