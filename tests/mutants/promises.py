"""What is promised: the rows of the README's table of promises, and the ten rules."""

import re
from functools import lru_cache

from .table import ROOT, Mutant, TableError

HEADING = "## What is promised, and what is not"
ROW = re.compile(r"^\| (?!promise|---)(.+?) \| (.+) \|$", re.MULTILINE)


@lru_cache(maxsize=1)
def promises() -> tuple[str, ...]:
    """Return the promises of the README, in its order, without links."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    return tuple(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row[0]) for row in ROW.findall(section))


def promise_of(mutant: Mutant) -> str | None:
    """Return the promise of the README that an entry breaks, if it names one.

    Raises:
        TableError: what it quotes is in none of the promises, or in several.
    """
    if not mutant.readme:
        return None
    found = [each for each in promises() if mutant.readme in each]
    if len(found) != 1:
        raise TableError(
            f"{mutant.topic}.toml: {mutant.name}: readme = {mutant.readme!r} "
            f"is in {len(found)} promises of the README, and must be in one."
        )
    return found[0]
