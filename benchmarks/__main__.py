"""Measure the app against bare loops that do the same work.

    python -m benchmarks [NAME ...] [--growth] [--rounds 5] [--quick] [--format text|json]

Everything runs in a new database, which is dropped afterwards. Compare only figures of one run, on a
machine that does nothing else.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from benchmarks import databases

if TYPE_CHECKING:
    from benchmarks.harness import Benchmark, Result

QUICK = 0.01
"""The share of the work that --quick does: enough to show that everything runs."""


def main(arguments: Sequence[str]) -> int:
    """Measure and report; the exit status is 3 if a target was asked for and missed."""
    options = _parser().parse_args(arguments)
    with databases.prepared(options.database, options.url, options.redis):
        try:
            return _run(options)
        finally:
            _delete_streams()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="which benchmarks; default: all but those of growth",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help="those of growth: with a million messages waiting, which takes long to prepare",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument(
        "--quick", action="store_true", help="one small round: the figures mean nothing"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument(
        "--url",
        default=os.environ.get("TEST_POSTGRES_URL") or databases.DEFAULT_URL,
        help="a PostgreSQL on which a database can be created",
    )
    parser.add_argument(
        "--redis",
        default=os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379/15",
        help="a Redis on which streams can be created; they are deleted afterwards",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 3 if a target is missed")
    return parser


def _run(options: argparse.Namespace) -> int:
    from benchmarks import report
    from benchmarks.machine import machine
    from benchmarks.tables import check_size

    check_size()
    known, left_out = _known(options.database)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    rounds, share = (1, QUICK) if options.quick else (options.rounds, 1.0)
    about = machine()
    results: list[Result] = []
    if options.format == "text":
        print(report.heading(about, rounds) + "\n", flush=True)
    wanted = options.names or [
        name for name in known if name.startswith("growth-") == options.growth
    ]
    for name in wanted:
        if name in left_out:
            print(f"{name}: NOT MEASURED, {left_out[name]}", file=sys.stderr, flush=True)
            continue
        results.append(_measured(name, known[name], rounds, share))
        if options.format == "text":
            print(report.lines(results[-1]), flush=True)
    if options.format == "json":
        print(json.dumps(report.document(about, rounds, results), indent=2))
    missed = any(result.met is False for result in results) or left_out.keys() & {*wanted}
    return 3 if options.strict and missed else 0


def _known(database: str) -> tuple[dict[str, "Benchmark"], dict[str, str]]:
    """Return all benchmarks by name, and why some of them cannot be measured here."""
    from benchmarks import (
        aggregates,
        backlog,
        dispatcher,
        growth,
        latency,
        rabbitmq,
        rebuild,
        record,
        redis_streams,
        relay,
        subscriptions,
        wake_ups,
    )

    modules = [
        record,
        relay,
        subscriptions,
        redis_streams,
        rabbitmq,
        dispatcher,
        backlog,
        latency,
        aggregates,
        growth,
    ]
    if database == "postgres":
        modules += [rebuild, wake_ups]
    known = {each.name: each for module in modules for each in module.BENCHMARKS}
    return known, _left_out(redis_streams) | _left_out(rabbitmq) | _left_out(growth)


def _measured(name: str, benchmark: "Benchmark", rounds: int, share: float) -> "Result":
    """Measure one benchmark, and report each round on stderr."""
    from benchmarks.harness import Result, measure

    result = Result(benchmark=benchmark)
    for result in measure(benchmark, rounds, share):
        print(f"{name}: round {len(result.ours)} of {rounds}", file=sys.stderr, flush=True)
    return result


def _delete_streams() -> None:
    from benchmarks import redis_streams

    if redis_streams.unavailable_reason() is None:
        redis_streams.delete_all_streams()


def _left_out(module: ModuleType) -> dict[str, str]:
    """Return the benchmarks of a module that cannot be measured here, and why."""
    reason = module.unavailable_reason()
    return {each.name: reason for each in module.BENCHMARKS} if reason else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
