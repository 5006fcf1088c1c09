"""How the benchmarks measure: two sides take turns, in several rounds, and medians are compared."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

Work = Callable[[], int]
"""The function that is timed; returns how much it has done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One task of the app, against the least work that the task needs.

    Fields:
        name: chooses it on the command line.
        title: what is compared, in a line.
        unit: what is counted a second.
        bare, ours: prepare so much work, which is not timed, and return the work.
        against: the name of the other side.
        target: the lowest acceptable ratio of ours to the other.
        size: how much work one turn does.
        turns: turns of each side in a round.
        set_up: called once, before the first round, with the size of a turn's share of the whole.
    """

    name: str
    title: str
    unit: str
    bare: Callable[[int], Work]
    ours: Callable[[int], Work]
    target: float
    size: int
    turns: int = 1
    against: str = "bare"
    set_up: Callable[[float], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure that is not compared with another side.

    Fields:
        take: returns the figure of one round, for so much work.
        target: the highest acceptable figure; None: for information only.
    """

    name: str
    title: str
    unit: str
    take: Callable[[int], float]
    size: int
    target: float | None = None


Benchmark = Comparison | Reading


@dataclass(slots=True, kw_only=True)
class Result:
    """The results of the rounds.

    Fields:
        ours: for each round, the work done in a second, or the figure itself.
        bare: for each round, the other side's work in a second; empty for a reading.
    """

    benchmark: Benchmark
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """For each round, the ratio of ours to the other side."""
        return [ours / bare for ours, bare in zip(self.ours, self.bare, strict=bool(self.bare))]

    @property
    def value(self) -> float:
        """The result: the ratio of the medians, or the median of the figure."""
        return median(self.ours) / (median(self.bare) if self.bare else 1)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: the benchmark has no target."""
        target = self.benchmark.target
        if target is None:
            return None
        if isinstance(self.benchmark, Comparison):
            return self.value >= target
        return self.value <= target


def measure(benchmark: Benchmark, rounds: int, share: float) -> Iterator[Result]:
    """Measure one benchmark, and yield its result after each round.

    Arguments:
        share: how much of the full size is done.
    """
    result = Result(benchmark=benchmark)
    size = max(int(benchmark.size * share), 1)
    if isinstance(benchmark, Comparison):
        benchmark.set_up(share)
    for number in range(rounds):
        if isinstance(benchmark, Comparison):
            bare, ours = _round(benchmark, size, number)
            result.bare.append(bare)
            result.ours.append(ours)
        else:
            result.ours.append(benchmark.take(size))
        yield result


def _round(benchmark: Comparison, size: int, number: int) -> tuple[float, float]:
    """Let both sides take turns; return how much each has done in a second."""
    clocks = {"bare": _Clock(), "ours": _Clock()}
    for turn in range(number, number + benchmark.turns):
        # Each side is first as often as the other: the second one finds warmer caches.
        for side in ("bare", "ours") if turn % 2 else ("ours", "bare"):
            work = benchmark.bare(size) if side == "bare" else benchmark.ours(size)
            clocks[side].time(work, size)
    return clocks["bare"].rate, clocks["ours"].rate


@dataclass(slots=True)
class _Clock:
    done: int = 0
    seconds: float = 0.0

    def time(self, work: Work, size: int) -> None:
        began = perf_counter()
        done = work()
        self.seconds += perf_counter() - began
        if done != size:
            raise AssertionError(f"{done} of {size} were done: the work is not comparable")
        self.done += done

    @property
    def rate(self) -> float:
        return self.done / self.seconds
