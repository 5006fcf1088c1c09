"""The commands that work a queue empty: drain_outbox, drain_inbox and receive_messages."""

import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.core.management.base import CommandError

from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue
from outbox_inbox.operations import (
    Drained,
    PartitionState,
    QueueStats,
    drain,
    due_count,
    queue_stats,
)
from outbox_inbox.operations.running import Interrupt
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.queues.wakeup import MoverName

from .arguments import positive, seconds
from .base import QueueCommand, add_contexts, chosen_contexts, counted
from .progress import shown_progress


class DrainCommand(QueueCommand):
    """Work until there is nothing left to be done now, and sum up in one line.

    Messages that are dead or failed are told and are no error: whoever watches for them calls
    ``queue_stats --fail-over``. A transport that is out of reach is one.
    """

    mover: ClassVar[MoverName]
    done: ClassVar[str]
    noun: ClassVar[str] = "message"
    nouns: ClassVar[str] = "messages"
    queue: ClassVar[Queue | None] = None
    """The queue that is worked empty; None: it is the transport's."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context, --limit and --wait."""
        add_contexts(parser)
        parser.add_argument(
            "--limit", type=positive, metavar="N", help="stop after N; default: until empty"
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="how long to wait for partitions that another process is at; default: 30",
        )

    def work(self, options: dict[str, Any]) -> None:
        """Drain, and sum up."""
        owners = chosen_contexts(options)
        begin = time.monotonic()
        with Interrupt().installed() as stop:
            drained = self._drain(owners, options, stop)
        total = sum((each.total for each in drained), Outcome())
        left = [] if self.queue is None else self._left(owners, self.queue)
        intakes = _intakes(owners) if self.mover == "receive" else []
        parts = [
            self._moved(total.done, time.monotonic() - begin),
            *_troubles(total),
            *self._told(left, total, stopped=stop()),
            *(f"the intake of {label} is {each.state}" for label, each in intakes),
        ]
        self.say("; ".join(parts) + ".", options, good=len(parts) == 1)
        if stop():
            raise CommandError("stopped by a signal before all was done")
        unreachable = [*_unreachable(drained), *_resting(left), *_at_rest(intakes, drained)]
        if unreachable:
            raise CommandError("not all could be done: " + "; ".join(unreachable))

    def _drain(
        self, owners: Sequence[Context], options: dict[str, Any], stop: Interrupt
    ) -> list[Drained]:
        total = (
            None
            if self.queue is None
            else sum(due_count(context, self.queue) for context in owners)
        )
        if total is not None and options["limit"] is not None:
            total = min(total, options["limit"])

        def waiting(busy: int) -> None:
            self.note(f"waiting for another process: {_partitions(busy)} in use", options)

        with shown_progress(self._title, total, self.stderr, options) as advance:
            return drain(
                owners,
                (self.mover,),
                limit=options["limit"],
                stop=stop,
                progress=lambda _owner, _work, count: advance(count),
                on_busy=waiting,
                patience=timedelta(seconds=options["wait"]),
            )

    @property
    def _title(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _moved(self, done: int, took: float) -> str:
        what = f"{self.done} {counted(done, self.noun, self.nouns)}"
        return f"{what} in {took:.1f} s ({done / took:,.0f}/s)" if done and took >= 1 else what

    def _left(self, owners: Sequence[Context], queue: Queue) -> list[QueueStats]:
        return [
            stats
            for stats in queue_stats(owners)
            if stats.queue == queue and (stats.depth.get("pending") or stats.depth.get("ready"))
        ]

    def _told(self, left: Sequence[QueueStats], total: Outcome, *, stopped: bool) -> Iterator[str]:
        if stopped:
            yield "stopped by a signal"
        if total.busy:
            yield f"{_partitions(total.busy)} left to another process"
        for stats in left:
            idle = stats.depth.get("pending", 0) + stats.depth.get("ready", 0)
            why = ", ".join(
                f"partition {each.number} is {each.state}"
                for each in stats.partitions
                if each.queue == stats.queue
            )
            yield f"{idle:,} left in {stats.context}" + (f" ({why})" if why else "")


def _partitions(count: int) -> str:
    return counted(count, "partition")


def _troubles(total: Outcome) -> Iterator[str]:
    if total.dead:
        yield f"{total.dead:,} dead"
    if total.failed:
        yield f"{counted(total.failed, 'attempt')} failed and will be made again"
    if total.held:
        yield f"{total.held:,} wait behind them"


def _unreachable(drained: Sequence[Drained]) -> Iterator[str]:
    for each in drained:
        if each.unreachable:
            yield f"{each.context}: {each.unreachable}"


def _resting(left: Sequence[QueueStats]) -> Iterator[str]:
    for stats in left:
        for each in stats.partitions:
            if each.state == "backing off" and each.until is not None:
                yield (
                    f"partition {each.number} of the {stats.queue.value} of {stats.context} "
                    f"rests until {each.until:%H:%M:%S} UTC: {each.reason}"
                )


def _intakes(owners: Sequence[Context]) -> list[tuple[str, PartitionState]]:
    """Return the intakes that rest or are paused, with the labels of their contexts."""
    return [
        (stats.context, each)
        for stats in queue_stats(owners)
        for each in stats.partitions
        if each.queue == Queue.INTAKE
    ]


def _at_rest(
    intakes: Sequence[tuple[str, PartitionState]], drained: Sequence[Drained]
) -> Iterator[str]:
    """Tell of intakes that were not asked for, since they rest; the others have told already."""
    asked = {each.context for each in drained if each.unreachable}
    for label, each in intakes:
        if each.until is not None and label not in asked:
            yield f"the intake of {label} rests until {each.until:%H:%M:%S} UTC: {each.reason}"
