"""The commands that drain: drain_outbox, drain_inbox, receive_messages and update_projections."""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from django.core.management.base import CommandError

from outbox_inbox.conf.clock import monotonic
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
from outbox_inbox.operations.selection import IDLE
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.queues.wakeup import MoverName

from .arguments import chosen_contexts, seconds, whole_number
from .base import QueueCommand
from .progress import progress_display
from .wording import counted, figure_text, state_text


class DrainCommand(QueueCommand):
    """Work until nothing is due, and print a summary in one line.

    Dead and failed messages are in the summary, and are not an error: to monitor them, call
    ``queue_stats --fail-over``. An unavailable transport is an error.

    Attributes:
        mover: the worker that drains.
        queue: the queue that it drains; None: the streams.
        done: what it has done to a message, such as "Sent".
        noun, nouns: what the summary counts.
    """

    shared_options = ("--context",)
    mover: ClassVar[MoverName]
    queue: ClassVar[Queue | None] = None
    done: ClassVar[str]
    noun: ClassVar[str] = "message"
    nouns: ClassVar[str] = "messages"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --limit and --wait."""
        super().add_arguments(parser)
        parser.add_argument(
            "--limit",
            type=whole_number(1),
            metavar="N",
            help=f"stop after N {self.nouns}; default: drain everything that is due",
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=30.0,
            metavar="SECONDS",
            help="wait this long for partitions that another process is using; default: 30",
        )

    def work(self, options: dict[str, Any]) -> None:
        """Drain, and print a summary."""
        chosen = chosen_contexts(options)
        begin = monotonic()
        with Interrupt().installed() as stop:
            drained = self._drain(chosen, options, stop)
        total = sum((each.total for each in drained), Outcome())
        found = [] if self.queue is None else queue_stats(chosen)
        left = [each for each in found if each.queue == self.queue and _due(each)]
        partitions = [
            (stats.context, each)
            for stats in found
            for each in stats.partitions
            if each.queue == self.queue and (stats in left or self.queue == Queue.INTAKE)
        ]
        parts = [
            self._done_text(total.done, monotonic() - begin),
            *_failures(total),
            *(["stopped by a signal"] if stop() else []),
            *_remaining(total, left, partitions),
        ]
        self.print_summary("; ".join(parts) + ".", options, good=len(parts) == 1)
        if stop():
            raise CommandError("stopped by a signal before everything was done")
        if unavailable := list(_unavailable(drained, partitions)):
            raise CommandError("not everything could be done: " + "; ".join(unavailable))

    def _drain(
        self, chosen: Sequence[Context], options: dict[str, Any], stop: Interrupt
    ) -> list[Drained]:
        total, limit = None, options["limit"]
        if self.queue in (Queue.OUTBOX, Queue.INBOX):
            due = sum(due_count(context, self.queue) for context in chosen)
            total = due if limit is None else min(due, limit)

        def note_busy(busy: int) -> None:
            in_use = counted(busy, "partition")
            self.print_note(f"waiting for another process: {in_use} in use", options)

        title = type(self).__module__.rpartition(".")[2]
        with progress_display(title, total, self.stderr, options) as advance:
            return drain(
                chosen,
                (self.mover,),
                limit=limit,
                stop=stop,
                progress=lambda _context, _mover, count: advance(count),
                on_busy=note_busy,
                patience=timedelta(seconds=options["wait"]),
            )

    def _done_text(self, done: int, took: float) -> str:
        text = f"{self.done} {counted(done, self.noun, self.nouns)}"
        return f"{text} in {took:.1f} s ({done / took:,.0f}/s)" if done and took >= 1 else text


def _due(stats: QueueStats) -> int:
    return stats.depth.get("pending", 0) + stats.depth.get("ready", 0)


def _failures(total: Outcome) -> Iterator[str]:
    if total.dead:
        yield f"{total.dead:,} dead"
    if total.failed:
        yield f"{counted(total.failed, 'failed attempt')}, to be retried"
    if total.held:
        yield f"{total.held:,} blocked behind them"


def _remaining(
    total: Outcome, left: Sequence[QueueStats], partitions: Sequence[tuple[str, PartitionState]]
) -> Iterator[str]:
    if total.busy:
        yield f"{counted(total.busy, 'partition')} in use by another process"
    for stats in left:
        states = ", ".join(
            f"partition {each.number} is {state_text(each.state)}"
            for label, each in partitions
            if label == stats.context
        )
        due = figure_text(_due(stats), minimum=stats.is_minimum(IDLE[stats.queue]))
        yield f"{due} left in {stats.context}" + (f" ({states})" if states else "")
    for label, each in partitions:
        if each.queue == Queue.INTAKE:
            yield f"the intake of {label} is {state_text(each.state)}"


def _unavailable(
    drained: Sequence[Drained], partitions: Sequence[tuple[str, PartitionState]]
) -> Iterator[str]:
    """Yield why contexts could not be drained: their transport, or a partition that backs off."""
    reported = {each.context: each.unreachable for each in drained if each.unreachable}
    for label, reason in reported.items():
        yield f"{label}: {reason}"
    for label, each in partitions:
        if each.state == "backing off" and label not in reported:
            state = state_text(each.state, each.until)
            yield f"{each.queue} partition {each.number} of {label} is {state}: {each.reason}"
