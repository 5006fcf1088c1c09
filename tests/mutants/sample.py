"""A choice of entries for each run of continuous integration: few, spread, and others next time."""

import subprocess
import zlib
from collections.abc import Sequence

from .table import ROOT, Mutant

LONG = ("tests/acceptance/", "tests/browser/", "tests/conformance/")


def sample(mutants: Sequence[Mutant], count: int) -> list[Mutant]:
    """Return some entries at equal distances, so that topics and databases come in their proportions.

    The first one depends on the commit: the same commit gives the same choice, and all entries are
    chosen over time. Entries whose tests start servers or many processes are left to the whole run.
    """
    quick = [each for each in mutants if not any(test.startswith(LONG) for test in each.tests)]
    ordered = sorted(quick, key=lambda each: (each.topic, DATABASE_ORDER[each.database]))
    count = min(count, len(ordered))
    start = zlib.crc32(_commit()) % (len(ordered) or 1)
    places = [(start + number * len(ordered) // count) % len(ordered) for number in range(count)]
    return [ordered[place] for place in sorted(places)]


DATABASE_ORDER = {"sqlite": 0, "postgres": 1, "mariadb": 2}


def _commit() -> bytes:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, check=True, capture_output=True
    ).stdout.strip()
