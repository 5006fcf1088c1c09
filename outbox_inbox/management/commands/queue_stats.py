"""``manage.py queue_stats``."""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any

from outbox_inbox.management.arguments import shown
from outbox_inbox.management.base import (
    QueueCommand,
    SomethingIsWrong,
    add_contexts,
    add_format,
    chosen_contexts,
    counted,
)
from outbox_inbox.management.thresholds import Limit, exceeded, limit
from outbox_inbox.operations import (
    PartitionState,
    QueueStats,
    ReadModelStats,
    queue_stats,
    read_model_stats,
)

_COLUMNS = ("ready", "backing off", "waiting", "dead", "scheduled")


class Command(QueueCommand):
    """Show how full the queues are."""

    help = (
        "Show for each context how many messages are in its queues by state, how old the oldest "
        "is, which keys are parked, which partitions rest and what is quarantined; and how far each "
        "projection is behind. With "
        "--fail-over: exit code 3 when there is too much of something."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --context, --format and --fail-over."""
        add_contexts(parser)
        add_format(parser)
        parser.add_argument(
            "--fail-over",
            action="append",
            type=limit,
            metavar="LIMIT",
            help=(
                "exit with 3 when a queue has more: N or depth=N (unfinished messages, without what is "
                "scheduled for later), dead=N, "
                "quarantined=N, parked=N (keys), age=15m (of the oldest), or when a projection has "
                "more: lag=N (events behind); may be given several times"
            ),
        )

    def work(self, options: dict[str, Any]) -> None:
        """Show, and compare with the limits."""
        chosen = chosen_contexts(options)
        found, kept = queue_stats(chosen), read_model_stats(chosen)
        given = options["fail_over"] or []
        limits = [each if isinstance(each, Limit) else limit(str(each)) for each in given]
        wrong = list(exceeded(limits, found, kept))
        if options["format"] == "json":
            self.write_json(_document(found, kept, wrong))
        else:
            for line in (*_table(found), *map(_line, kept)):
                self.stdout.write(line)
        if wrong:
            raise SomethingIsWrong("; ".join(wrong))


def _document(
    found: Sequence[QueueStats], kept: Sequence[ReadModelStats], wrong: Sequence[str]
) -> dict[str, Any]:
    labels = list(dict.fromkeys(stats.context for stats in found))
    return {
        "unfinished": sum(stats.unfinished for stats in found),
        "scheduled": sum(stats.scheduled for stats in found),
        "dead": sum(stats.dead for stats in found),
        "quarantined": sum(stats.quarantined for stats in found),
        "exceeded": list(wrong),
        "contexts": {
            label: {
                **{stats.queue.value: _queue(stats) for stats in found if stats.context == label},
                "projections": {
                    each.name: _read_model(each) for each in kept if each.context == label
                },
            }
            for label in labels
        },
    }


def _read_model(stats: ReadModelStats) -> dict[str, Any]:
    return {
        "database": stats.database,
        "lag": stats.lag,
        "oldest_seconds": None if stats.oldest is None else round(stats.oldest, 3),
        "state": stats.state,
        "error": stats.error,
        "failures": stats.failures,
        "until": None if stats.until is None else stats.until.isoformat(),
        "rebuilding": stats.rebuilding,
    }


def _line(stats: ReadModelStats) -> str:
    lag = "up to date"
    if stats.lag:
        lag = f"{counted(stats.lag, 'event')} behind, the first for {shown(stats.oldest)}"
    until = "" if stats.until is None else f" until {stats.until:%Y-%m-%d %H:%M:%S} UTC"
    state = "" if stats.state == "working" else f"; {stats.state}{until}"
    error = f": {stats.error}" if stats.error else ""
    rebuilding = "; a rebuild is not finished" if stats.rebuilding else ""
    return f"{stats.context} projection {stats.name}: {lag}{state}{error}{rebuilding}"


def _queue(stats: QueueStats) -> dict[str, Any]:
    return {
        "database": stats.database,
        "unfinished": stats.unfinished,
        **stats.depth,
        "scheduled": stats.scheduled,
        "oldest_seconds": None if stats.oldest is None else round(stats.oldest, 3),
        "parked_keys": stats.parked_keys,
        "parked": [{"key": each.key, "consumer": each.consumer} for each in stats.parked],
        "partitions": [_partition(each) for each in stats.partitions],
        "quarantined": stats.quarantined,
        "quarantined_reasons": {each.value: count for each, count in stats.quarantine.items()},
    }


def _partition(state: PartitionState) -> dict[str, Any]:
    return {
        "queue": state.queue.value,
        "number": state.number,
        "state": state.state,
        "reason": state.reason,
        "until": None if state.until is None else state.until.isoformat(),
    }


def _table(found: Sequence[QueueStats]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("context", "queue", *_COLUMNS, "oldest")]
    for stats in found:
        ready = stats.depth.get("pending", 0)
        depth = {"ready": ready, **stats.depth, "scheduled": stats.scheduled}
        figures = [f"{depth[name.replace(' ', '_')]:,}" for name in _COLUMNS]
        rows.append((stats.context, stats.queue.value, *figures, shown(stats.oldest)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*text, *figures])
    for stats in found:
        yield from _parked(stats)
        if stats.quarantined:
            reasons = ", ".join(
                f"{count:,} {each.label}" for each, count in stats.quarantine.items()
            )
            yield f"{stats.context} inbox: {stats.quarantined:,} quarantined: {reasons}"
        for state in stats.partitions:
            until = "" if state.until is None else f" until {state.until:%Y-%m-%d %H:%M:%S} UTC"
            reason = f": {state.reason}" if state.reason else ""
            yield (
                f"{stats.context} {state.queue.value}: partition {state.number} is "
                f"{state.state}{until}{reason}"
            )


def _parked(stats: QueueStats) -> Iterator[str]:
    if not stats.parked_keys:
        return
    names = [
        f"{each.key} ({each.consumer})" if each.consumer else each.key for each in stats.parked
    ]
    more = stats.parked_keys - len(names)
    rest = f" and {more:,} more" if more else ""
    keys = counted(stats.parked_keys, "parked key")
    yield f"{stats.context} {stats.queue.value}: {keys}: {', '.join(names)}{rest}"
