"""The thresholds of ``queue_stats --fail-over``, by which monitoring finds a queue in trouble."""

from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from outbox_inbox.conf.section import suggestion
from outbox_inbox.operations import MOST_COUNTED, QueueStats, ReadModelStats

from .arguments import duration
from .wording import age_text

_MEASURES = {
    "depth": ("unfinished", "{} unfinished"),
    "dead": ("dead", "{} dead"),
    "quarantined": ("quarantined", "{} quarantined"),
    "parked": ("parked_keys", "{} parked keys"),
    "age": ("oldest", "the oldest is {} old"),
    "lag": ("lag", "{} events behind"),
}
"""Name of a measure -> the attribute of the stats that has it, and what a report says.

The depth leaves out messages that are scheduled for later.
"""


class Threshold(NamedTuple):
    """The most that a queue or a read model may have of something; an age is in seconds."""

    name: str
    most: float


def threshold(text: str) -> Threshold:
    """Return a threshold, such as ``100``, ``depth=100``, ``dead=0``, ``age=15m``, ``lag=1000``."""
    name, _, value = (text if "=" in text else f"depth={text}").partition("=")
    if name not in _MEASURES:
        raise ArgumentTypeError(
            f"{text!r}: there is no measure {name!r}{suggestion(name, _MEASURES)}"
        )
    if name == "age":
        return Threshold(name, duration(value).total_seconds())
    if not value.isdecimal():
        raise ArgumentTypeError(
            f"{text!r}; expected a whole number, such as 100 or dead=0, or age=15m"
        )
    return Threshold(name, int(value))


def counting_limit(thresholds: Sequence[Threshold]) -> int:
    """Return up to which number the stats must count, to show whether a threshold is exceeded."""
    return max(MOST_COUNTED, *(int(each.most) for each in thresholds if each.name != "age"), 0)


def exceeded(
    thresholds: Sequence[Threshold],
    queues: Sequence[QueueStats],
    read_models: Sequence[ReadModelStats] = (),
) -> Iterator[str]:
    """Yield a sentence for each threshold that a queue or a read model exceeds.

    The stats are to be counted up to the `counting_limit` of the thresholds.
    """
    for each in thresholds:
        attribute, sentence = _MEASURES[each.name]
        shown = age_text if each.name == "age" else "{:,.0f}".format
        for stats in read_models if each.name == "lag" else queues:
            value = getattr(stats, attribute) or 0
            more = stats.is_minimum(attribute)  # and a threshold is never above what was counted
            if more or value > each.most:
                found = sentence.format("more than " * more + shown(value))
                yield f"{_subject(stats)}: {found} (limit {shown(each.most)})"


def _subject(stats: QueueStats | ReadModelStats) -> str:
    if isinstance(stats, ReadModelStats):
        return f"{stats.context} projection {stats.name}"
    return f"{stats.context} {stats.queue.value}"
