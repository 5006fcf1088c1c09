"""The report: a table as text, or one JSON document."""

from typing import Any

from benchmarks.harness import Comparison, Result

_WIDTH = 100


def heading(machine: dict[str, str], rounds: int) -> str:
    """Return the lines that describe the machine and the run."""
    about = {**machine, "rounds": f"{rounds}, of which medians are shown; the sides take turns"}
    widest = max(map(len, about))
    return "\n".join(f"{name:<{widest}}  {value}" for name, value in about.items())


def lines(result: Result) -> str:
    """Return the lines of one benchmark."""
    benchmark = result.benchmark
    if isinstance(benchmark, Comparison):
        bare, ours = _medians(result)
        low, high = min(result.ratios), max(result.ratios)
        figures = (
            f"{benchmark.against} {bare:>9,.0f}/s   ours {ours:>9,.0f}/s   "
            f"ratio {result.value:.3f} ({low:.2f} to {high:.2f})"
        )
        wanted = f"at least {benchmark.target:.2f}"
    else:
        figures = f"{result.value:.4g} {benchmark.unit}"
        wanted = "" if benchmark.target is None else f"at most {benchmark.target:g}"
    verdict = f"   {wanted}: {'met' if result.met else 'NOT MET'}" if wanted else ""
    return f"{benchmark.name}: {benchmark.title}\n    {figures}{verdict}"


def document(machine: dict[str, str], rounds: int, results: list[Result]) -> dict[str, Any]:
    """Return all results, for one JSON document."""
    return {
        "machine": machine,
        "rounds": rounds,
        "figures": {result.benchmark.name: _figure(result) for result in results},
    }


def _figure(result: Result) -> dict[str, Any]:
    benchmark = result.benchmark
    about = {
        "title": benchmark.title,
        "unit": benchmark.unit,
        "target": benchmark.target,
        "met": result.met,
    }
    if not isinstance(benchmark, Comparison):
        return {**about, "value": result.value, "rounds": result.ours}
    bare, ours = _medians(result)
    return {
        **about,
        "unit": f"{benchmark.unit} a second",
        "ratio": result.value,
        "ours": ours,
        benchmark.against: bare,
        "rounds": {"ours": result.ours, benchmark.against: result.bare, "ratio": result.ratios},
    }


def _medians(result: Result) -> tuple[float, float]:
    from statistics import median

    return median(result.bare), median(result.ours)
