"""``manage.py queue_stats``: show how full the queues are."""

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from outbox_inbox.management.arguments import chosen_contexts
from outbox_inbox.management.base import ProblemFound, QueueCommand
from outbox_inbox.management.thresholds import Threshold, counting_limit, exceeded, threshold
from outbox_inbox.management.wording import age_text, back_off_text, counted, figure_text
from outbox_inbox.operations import (
    GoneConsumer,
    QueueStats,
    ReadModelStats,
    gone_consumers,
    queue_stats,
    read_model_stats,
)
from outbox_inbox.signals.escaping import visible

_COLUMNS = ("ready", "backing off", "waiting", "dead", "scheduled")


class Command(QueueCommand):
    shared_options = ("--context", "--format")
    help = (
        "Show the queues of each context: messages by state, the age of the oldest, parked keys, "
        "partitions that are paused or back off, and quarantined messages; and how far each "
        "projection is behind. It counts up to 10,000 of each, or up to the highest limit given. With "
        "--fail-over, exit with 3 if a limit is exceeded."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--fail-over",
            action="append",
            type=threshold,
            metavar="LIMIT",
            help=(
                "exit with 3 if a queue has more than this: N or depth=N (unfinished messages, without "
                "those scheduled for later), dead=N, quarantined=N, parked=N (keys), age=15m (of the "
                "oldest); or if a projection is further behind: lag=N (events); repeat the option "
                "for several limits"
            ),
        )

    def work(self, options: dict[str, Any]) -> None:
        chosen = chosen_contexts(options)
        given = options["fail_over"] or []
        limits = [each if isinstance(each, Threshold) else threshold(str(each)) for each in given]
        most = counting_limit(limits)
        # The document has every parked key that was counted; the table names a few.
        queues = queue_stats(chosen, most=most, **_named(options, most))
        read_models = read_model_stats(chosen, most=most)
        gone = gone_consumers(chosen)
        problems = list(exceeded(limits, queues, read_models))
        details = (line for stats in queues for line in _detail_lines(stats))
        left = map(_gone_line, gone)
        databases = sorted({stats.database for stats in queues if stats.read_only})
        refused = [f"the database {name!r} can be read, but not written" for name in databases]
        problems += refused if limits else []
        lines = (*_table(queues), *refused, *details, *left, *map(_read_model_line, read_models))
        document = _document(queues, read_models, problems)
        for label, found in document["contexts"].items():
            found["gone_consumers"] = [asdict(each) for each in gone if each.context == label]
        self.print_document(document, lines, options)
        if problems:
            raise ProblemFound("; ".join(problems))


def _named(options: dict[str, Any], most: int) -> dict[str, int]:
    return {"named": most} if options["format"] == "json" else {}


def _document(
    queues: Sequence[QueueStats], read_models: Sequence[ReadModelStats], problems: Sequence[str]
) -> dict[str, Any]:
    contexts: dict[str, dict[str, Any]] = {}
    for stats in queues:
        contexts.setdefault(stats.context, {})[stats.queue.value] = _queue(stats)
    for label, document in contexts.items():
        mine = [each for each in read_models if each.context == label]
        document["projections"] = {each.name: _read_model(each) for each in mine}
    totals = ("unfinished", "scheduled", "dead", "quarantined")
    return {
        **{name: sum(getattr(stats, name) for stats in queues) for name in totals},
        "minimums": [name for name in totals if any(each.is_minimum(name) for each in queues)],
        "exceeded": list(problems),
        "contexts": contexts,
    }


def _queue(stats: QueueStats) -> dict[str, Any]:
    return {
        "database": stats.database,
        "read_only": stats.read_only,
        "unfinished": stats.unfinished,
        **stats.depth,
        "scheduled": stats.scheduled,
        "oldest_seconds": _rounded(stats.oldest),
        "parked_keys": stats.parked_keys,
        "parked": [asdict(each) for each in stats.parked],
        "partitions": [asdict(each) for each in stats.partitions],
        "quarantined": stats.quarantined,
        "quarantined_reasons": {each.value: count for each, count in stats.quarantine.items()},
        "minimums": [
            *(["unfinished"] if stats.is_minimum("unfinished") else []),
            *sorted(stats.minimums),
        ],
    }


def _read_model(stats: ReadModelStats) -> dict[str, Any]:
    names = ("state", "error", "failures", "until", "rebuilding")
    return {
        "database": stats.database,
        "lag": stats.lag,
        "oldest_seconds": _rounded(stats.oldest),
        **{name: getattr(stats, name) for name in names},
        "minimums": sorted(stats.minimums),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _table(queues: Sequence[QueueStats]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("context", "queue", *_COLUMNS, "oldest")]
    for stats in queues:
        depth = {**stats.depth, "scheduled": stats.scheduled}
        figures = [f"{'>' * stats.is_minimum(state)}{count:,}" for state, count in depth.items()]
        rows.append((stats.context, stats.queue.value, *figures, age_text(stats.oldest)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        figures = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*text, *figures])


def _detail_lines(stats: QueueStats) -> Iterator[str]:
    if stats.parked_keys:
        names = [
            f"{visible(each.key)} ({each.consumer})" if each.consumer else visible(each.key)
            for each in stats.parked
        ]
        unnamed = stats.parked_keys - len(names)
        more = f" and {unnamed:,} more" if unnamed else ""
        keys = counted(stats.parked_keys, "parked key")
        if stats.is_minimum("parked_keys"):
            keys, more = f"more than {keys}", ", …"
        yield f"{stats.context} {stats.queue.value}: {keys}: {', '.join(names)}{more}"
    if stats.quarantined:
        reasons = ", ".join(f"{count:,} {each.label}" for each, count in stats.quarantine.items())
        minimum = stats.is_minimum("quarantined")
        count = figure_text(stats.quarantined, minimum=minimum)
        yield f"{stats.context} inbox: {count} quarantined: {reasons}" + ", …" * minimum
    for each in stats.partitions:
        outages = counted(each.outages, "outage") if each.outages else ""
        state = back_off_text(each.state, each.until, outages) + (
            f": {_cause(each.reason)}" if each.reason else ""
        )
        yield f"{stats.context} {each.queue.value}: partition {each.number} is {state}"


def _gone_line(gone: GoneConsumer) -> str:
    count = counted(gone.unfinished, "unfinished delivery", "unfinished deliveries")
    more = "more than " * gone.minimum
    seen = f"; a process last had it {age_text(gone.confirmed)} ago"
    return (
        f"{gone.context} inbox: {more}{count} of {gone.consumer}, which the code does not have (was it "
        f"renamed? see rename_consumer){seen}"
    )


def _read_model_line(stats: ReadModelStats) -> str:
    lag = "up to date"
    if stats.lag:
        more = "more than " * stats.is_minimum("lag")
        lag = f"{more}{counted(stats.lag, 'event')} behind, the oldest for {age_text(stats.oldest)}"
    failures = counted(stats.failures, "failure") if stats.failures else ""
    shown = back_off_text(stats.state, stats.until, failures)
    state = "" if stats.state == "working" else f"; {shown}"
    error = f": {_cause(stats.error)}" if stats.error else ""
    rebuilding = "; a rebuild is unfinished" if stats.rebuilding else ""
    return f"{stats.context} projection {stats.name}: {lag}{state}{error}{rebuilding}"


def _cause(text: str) -> str:
    return visible(
        text, 1_000
    )  # as much as is stored of an error; an operator's reason has no limit
