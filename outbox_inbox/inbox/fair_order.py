"""The order among keys: they take turns, so a busy key delays another by one message, not by all of its own.

Only the deliveries of one consumer and key have an order, that of their ids, and it is kept here
(rule O6). Messages without a key share the turns of one group per consumer: were each a group, a
flood of them would leave a key next to nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from operator import attrgetter, itemgetter

from outbox_inbox.conf import settings
from outbox_inbox.queues import statements
from outbox_inbox.queues.outcome import TURN_BATCHES
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow, UnknownType

Group = tuple[str, str | None]
"""A consumer, and a key or None."""

_REPEATED, _REPEATED_WHEN_SLOW = 10, 2
"""How many deliveries each group of a full page has on average, so that a look past the page is worth it.

The look takes some ten milliseconds. Where the turn before was cut off, others have waited for it.
"""

_cut_off: dict[tuple[str, int], dict[Group, int]] = {}
"""Context and partition -> the groups of the page in which a turn was cut off, in their order.

Each with the id of its first delivery. A group whose first delivery is another one the next time has had
its turn. Without this memory, handlers that take a whole turn would serve the oldest key at each of them.
"""


class FairOrder:
    """Reads the deliveries of one run ahead, in the order in which they are to be handled."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._place = run.context.label, run.number
        self._looked = False

    def read(self, size: int, unknown: Sequence[UnknownType]) -> list[ReadyRow]:
        """Return the next deliveries, at most ``size``; ``unknown``: without these.

        After a crash they are what the worker that crashed may have had in hand: a batch in the order
        of the ids, and then one of which a look past the page is a part.
        """
        run = self._run
        place = (run.connection, run.context.label, run.number)
        rows = statements.select_ready(*place, size, unknown)
        if run.careful:
            if run.careful > settings().batch_size or len(rows) < size:
                return rows
            return take_turns(self._look_past(rows, unknown), {})[0]
        before = _cut_off.get(self._place)
        # Once a run: what this turn does not reach is reached by the next one, which looks again.
        if not self._looked and len(rows) == size:
            few = max(size // (_REPEATED if before is None else _REPEATED_WHEN_SLOW), 1)
            if len({(row.consumer, row.key) for row in rows}) <= few < size:
                rows = self._look_past(rows, unknown)
        self._looked = True
        rows, _cut_off[self._place] = take_turns(rows, before or {})
        return rows

    def close(self, *, cut_off: bool) -> None:
        """End the run; ``cut_off``: some of what was read was not reached."""
        if not cut_off:
            _cut_off.pop(self._place, None)

    def _look_past(
        self, page: Sequence[ReadyRow], unknown: Sequence[UnknownType]
    ) -> list[ReadyRow]:
        """Return as many deliveries as the page has, also of groups that are behind it.

        Of each group they are the first ones, in the order of their ids: none may be left out.
        """
        run, size, known = self._run, len(page), {row.id: row for row in page}
        place = (run.connection, run.context.label, run.number)
        among = TURN_BATCHES * size
        counts: Counter[Group] = Counter()
        ranked: list[tuple[int, int]] = []
        for id_, consumer, key in statements.select_groups(*place, among, unknown):
            counts[consumer, key] += 1
            ranked.append((counts[consumer, key], id_))
        chosen = {id_ for _, id_ in nsmallest(size, ranked)}
        behind = statements.select_ready_among(run.connection, sorted(chosen - known.keys()))
        return sorted([*(row for row in page if row.id in chosen), *behind], key=attrgetter("id"))


def take_turns(
    rows: Sequence[ReadyRow], before: Mapping[Group, int]
) -> tuple[list[ReadyRow], dict[Group, int]]:
    """Return deliveries so that their groups take turns, and each group with its first id, in order.

    Arguments:
        rows: in the order of their ids.
        before: what was returned the last time, if that turn was cut off. A group that was not
            reached goes first, then one that is new, and last one that had its turn.
    """
    counts: dict[Group, int] = {}
    heads: dict[Group, int] = {}
    rounds: list[tuple[int, Group, ReadyRow]] = []
    for row in rows:
        group = (row.consumer, row.key)
        heads.setdefault(group, row.id)
        counts[group] = count = counts.get(group, 0) + 1
        rounds.append((count, group, row))
    places = {group: place for place, group in enumerate(before)}

    def rank(group: Group) -> tuple[int, int]:
        if group not in before:
            return 1, 0
        return (0 if before[group] == heads[group] else 2), places[group]

    order = {group: place for place, group in enumerate(sorted(heads, key=rank))}
    ranked = sorted(
        (((count, order[group]), row) for count, group, row in rounds), key=itemgetter(0)
    )
    return [row for _, row in ranked], {group: heads[group] for group in order}
