"""The limits of ``queue_stats --fail-over``: what may not be exceeded."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from outbox_inbox.conf.section import suggestion
from outbox_inbox.operations import QueueStats, ReadModelStats

from .arguments import duration, shown

_MEASURES: dict[str, tuple[str, Callable[[QueueStats], float]]] = {
    "depth": ("unfinished", lambda stats: stats.unfinished),
    "dead": ("dead", lambda stats: stats.dead),
    "quarantined": ("quarantined", lambda stats: stats.quarantined),
    "parked": ("parked keys", lambda stats: stats.parked_keys),
    "age": ("the oldest", lambda stats: stats.oldest or 0.0),
}


_LAG = "lag"


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a queue, or a read model, may have of something.

    Fields:
        name: depth (unfinished messages; what is scheduled for later is none), dead, quarantined,
            parked (keys), age (of the oldest, seconds), or lag (events that a read model has not
            taken in).
        most: what is still allowed.
    """

    name: str
    most: float


def limit(text: str) -> Limit:
    """Return a limit: ``100`` or ``depth=100``, ``dead=0``, ``quarantined=0``, ``parked=3``, ``age=15m``, ``lag=1000``.

    Raises:
        ArgumentTypeError: it is none.
    """
    name, _, value = (text if "=" in text else f"depth={text}").partition("=")
    if name not in (*_MEASURES, _LAG):
        raise ArgumentTypeError(
            f"{text!r}: there is no measure {name!r}{suggestion(name, (*_MEASURES, _LAG))}"
        )
    if name == "age":
        return Limit(name, duration(value).total_seconds())
    if not value.isdecimal():
        raise ArgumentTypeError(
            f"{text!r}; expected a whole number, such as 100 or dead=0, or age=15m"
        )
    return Limit(name, int(value))


def exceeded(
    limits: Sequence[Limit], found: Sequence[QueueStats], kept: Sequence[ReadModelStats] = ()
) -> Iterator[str]:
    """Yield a sentence for each limit that a queue or a read model exceeds."""
    for each in limits:
        if each.name == _LAG:
            for stats in kept:
                if stats.lag > each.most:
                    named = f"{stats.context} projection {stats.name}"
                    yield f"{named}: {stats.lag:,} events behind (limit {each.most:,.0f})"
            continue
        noun, measure = _MEASURES[each.name]
        for queue_stats in found:
            value = measure(queue_stats)
            if value > each.most:
                queue = f"{queue_stats.context} {queue_stats.queue.value}"
                if each.name == "age":
                    yield f"{queue}: the oldest is {shown(value)} old (limit {shown(each.most)})"
                else:
                    yield f"{queue}: {value:,.0f} {noun} (limit {each.most:,.0f})"
