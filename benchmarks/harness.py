"""How is measured: two sides that take turns, several rounds, medians."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

Work = Callable[[], int]
"""What is timed; returns how much it has done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One thing that the app does, against the least that anybody would have to do for it.

    Fields:
        name: chooses it on the command line.
        title: what is compared, in a line.
        unit: what is counted a second.
        bare, ours: prepare so much work, which is not timed, and return the work.
        against: what the other side is called.
        target: the least ratio of ours to the other.
        size: how much one turn does.
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
    """A figure that needs no other to be judged by.

    Fields:
        take: returns the figure of one round, for so much work.
        target: the most that it may be; None: just to know.
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
    """What the rounds came to.

    Fields:
        ours: of each round, what is done in a second, or the figure itself.
        bare: of each round, what the other side does in a second; empty for a reading.
    """

    benchmark: Benchmark
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Of each round, ours to the other side."""
        return [ours / bare for ours, bare in zip(self.ours, self.bare, strict=bool(self.bare))]

    @property
    def value(self) -> float:
        """What is judged: the ratio of the medians, or the median of the figure."""
        return median(self.ours) / (median(self.bare) if self.bare else 1)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: there is none."""
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
    """Let both sides take turns; return what each has done in a second."""
    clocks = {"bare": _Clock(), "ours": _Clock()}
    for turn in range(number, number + benchmark.turns):
        # Each side is first as often as the other, so neither always finds the warmer caches.
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
