"""Break the code on purpose, entry by entry, and report the breakages that no test notices.

    python -m tests.mutants [--sample 10] [--only NAME ...] [--jobs N] [--format json]
    python -m tests.mutants --write       # make docs/mutants.md from the tables

Nothing is edited in the tree itself. First the named tests run with nothing edited, and must pass; then
each entry's tests run with its edit, and must fail. A run that hangs counts as noticed, by "timeout".

Exit status: 0 all breakages were noticed; 3 some survived; 4 an entry is wrong or its edit no longer
applies; 5 a named test does not pass with nothing edited, or did not run.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from .page import PAGE, page
from .runner import Runner, Verdict, usual_jobs
from .sample import sample
from .source import edit_of
from .table import Mutant, TableError, load
from .trees import trees

SURVIVED, WRONG, UNUSABLE = 3, 4, 5


def main(given: Sequence[str]) -> int:
    """Run the chosen entries, print what became of them, and return the exit status."""
    options = _parse(given)
    try:
        mutants = load()
        for each in mutants:
            edit_of(each)
        if options.write:
            PAGE.write_text(page(mutants), encoding="utf-8")
            return 0
        chosen = _choose(mutants, options)
    except TableError as error:
        print(error, file=sys.stderr)
        return WRONG
    return _run(chosen, options)


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--sample", type=int, metavar="N", help="run N entries, others at each commit"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="run these: names or topics"
    )
    parser.add_argument("--jobs", type=int, default=usual_jobs(), help="how many at once")
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--why", action="store_true", help="print the end of what each run said")
    parser.add_argument("--trust", action="store_true", help="do not run the tests unedited first")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} and run nothing")
    return parser.parse_args(given)


def _choose(mutants: list[Mutant], options: argparse.Namespace) -> list[Mutant]:
    if options.only:
        known = {each.name for each in mutants} | {each.topic for each in mutants}
        if unknown := [name for name in options.only if name not in known]:
            raise TableError(f"--only={unknown[0]}: no entry and no table has this name.")
        return [each for each in mutants if {each.name, each.topic} & {*options.only}]
    return sample(mutants, options.sample) if options.sample else mutants


def _run(mutants: list[Mutant], options: argparse.Namespace) -> int:
    progress = sys.stderr if options.format == "json" else sys.stdout
    jobs = max(1, min(options.jobs, len(mutants)))

    def tell(line: str) -> None:
        print(line, file=progress, flush=True)

    with trees(jobs) as free:
        runner = Runner(free, jobs, tell)
        broken = [] if options.trust else runner.run_unbroken(mutants)
        for each in broken:
            tell(f"{each.state} with nothing edited: {each.test} on {each.database}\n{each.reason}")
        unusable = {(each.test, each.database) for each in broken}
        verdicts = []
        for verdict in runner.run([each for each in mutants if not unusable & uses(each)]):
            verdicts.append(verdict)
            if options.why or verdict.outcome == "no verdict":
                tell(verdict.reason)
    print(_json(verdicts) if options.format == "json" else _summary(verdicts))
    return _status(verdicts) or (UNUSABLE if broken else 0)


def uses(mutant: Mutant) -> set[tuple[str, str]]:
    """Return the tests of an entry, each with its database."""
    return {(test, mutant.database) for test in mutant.tests}


def _status(verdicts: Sequence[Verdict]) -> int:
    outcomes = {each.outcome for each in verdicts}
    return SURVIVED if "survived" in outcomes else WRONG if "no verdict" in outcomes else 0


def _json(verdicts: Sequence[Verdict]) -> str:
    return json.dumps([asdict(each) for each in verdicts], indent=2)


def _summary(verdicts: Sequence[Verdict]) -> str:
    outcomes = ("killed", "timeout", "survived", "no verdict")
    lines = [f"\n{'table':<16}" + "".join(f"{each:>12}" for each in outcomes)]
    topics = sorted({each.mutant.topic for each in verdicts})
    for topic in (*topics, "all"):
        counts = Counter(each.outcome for each in verdicts if topic in {each.mutant.topic, "all"})
        lines.append(f"{topic:<16}" + "".join(f"{counts[each]:>12}" for each in outcomes))
    for each in verdicts:
        if each.outcome in {"survived", "no verdict"}:
            lines.append(f"\n{each.outcome}: {each.mutant.name}: {each.mutant.promise}")
            lines += [f"  {state}: {test}" for test, state in each.tests.items()]
        elif each.outcome == "timeout":
            lines.append(f"\nnoticed only by a timeout: {each.mutant.name}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
