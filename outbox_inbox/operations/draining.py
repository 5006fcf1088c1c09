"""Drain: run the movers of many contexts in turn until the queues are empty.

One process runs relay, receiver, dispatcher and projections, context after context, round after
round: what one context handles is often what the next one has to send.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import product
from typing import TypedDict, Unpack

from outbox_inbox.conf.clock import monotonic
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.outcome import Outcome, ignore, never
from outbox_inbox.queues.servers import renew_connections
from outbox_inbox.queues.wakeup import MoverName, debounced_nudges
from outbox_inbox.streams.projecting import update_projections

PATIENCE = timedelta(seconds=30)
"""How long a drain waits for other workers to finish with the partitions that they hold."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts on a busy partition


Progress = Callable[[Context, MoverName, int], None]
"""Is called with the number of messages that were just moved."""

Mover = Callable[..., Outcome]
"""The relay, the receiver, the dispatcher, or the updater of the read models.

Takes a context, and by name ``limit``, ``stop`` and ``progress`` as `drain` does.
"""

MOVERS: Mapping[MoverName, Mover] = {
    "relay": relay_outbox,
    "receive": receive_messages,
    "dispatch": dispatch_inbox,
    "project": update_projections,
}
"""The movers of a context, in the order in which they move a message."""


class DrainOptions(TypedDict, total=False):
    """The options of `drain`.

    Keys:
        limit: move at most so many messages; default: until the queues are empty.
        stop: called between batches; true ends the drain.
        progress: called with what each batch has moved.
        on_busy: called with the number of partitions that other workers hold, when the drain
            begins to wait for them.
        patience: how long it waits for them while nothing moves; default 30 s.
    """

    limit: int | None
    stop: Callable[[], bool]
    progress: Progress
    on_busy: Callable[[int], None]
    patience: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverTurn:
    """What one mover did in one turn in one context.

    Fields:
        unreachable: why the transport could not be reached, or empty.
    """

    context: Context
    mover: MoverName
    outcome: Outcome
    unreachable: str = ""


@dataclass(slots=True, kw_only=True)
class Drained:
    """What a drain did in one context.

    Fields:
        context: its label.
        relayed, received, dispatched, projected: what the movers did; ``busy`` is the number of
            partitions that other workers held at the last attempt.
        unreachable: why the transport could not be reached, or empty.
    """

    context: str
    relayed: Outcome = field(default_factory=Outcome)
    received: Outcome = field(default_factory=Outcome)
    dispatched: Outcome = field(default_factory=Outcome)
    projected: Outcome = field(default_factory=Outcome)
    unreachable: str = ""

    @property
    def total(self) -> Outcome:
        """All of them together."""
        return self.relayed + self.received + self.dispatched + self.projected

    def add(self, turn: MoverTurn) -> None:
        """Count one turn."""
        name = _COUNTED_IN[turn.mover]
        before: Outcome = getattr(self, name)
        setattr(self, name, replace(before + turn.outcome, busy=turn.outcome.busy))
        self.unreachable = turn.unreachable or self.unreachable


_COUNTED_IN: Mapping[MoverName, str] = {
    "relay": "relayed",
    "receive": "received",
    "dispatch": "dispatched",
    "project": "projected",
}


def drain(
    chosen: Iterable[Context] | None = None,
    movers: Sequence[MoverName] = tuple(MOVERS),
    **options: Unpack[DrainOptions],
) -> list[Drained]:
    """Run movers until nothing is due any more.

    What is scheduled, backing off, parked or paused is not waited for.

    Arguments:
        chosen: which contexts; None (default) means all.
        movers: which movers; default: all.
    """
    wanted = contexts() if chosen is None else tuple(chosen)
    found = {context.label: Drained(context=context.label) for context in wanted}
    for turn in mover_turns(wanted, movers, **options):
        found[turn.context.label].add(turn)
    return list(found.values())


def mover_turns(
    chosen: Sequence[Context],
    movers: Sequence[MoverName] = tuple(MOVERS),
    **options: Unpack[DrainOptions],
) -> Iterator[MoverTurn]:
    """Do as `drain`, and yield each turn when it is over."""
    stop, left = options.get("stop", never), options.get("limit")
    pauses: Iterator[float] | None = None
    while not stop():
        moved, busy = False, 0
        for context, mover in product(chosen, movers):
            if stop() or left == 0:
                return
            turn = _take_turn(context, mover, left, stop, options.get("progress", ignore))
            yield turn
            moved, busy = moved or turn.outcome.steps > 0, busy + turn.outcome.busy
            done = turn.outcome.done + turn.outcome.failed + turn.outcome.dead
            left = None if left is None else max(left - done, 0)
        if moved:
            pauses = None
            continue
        if not busy:
            return
        if pauses is None:
            pauses = _pauses(options.get("patience", PATIENCE))
            options.get("on_busy", ignore)(busy)
        if (pause := next(pauses, None)) is None:
            return
        renew_connections()
        time.sleep(pause)


def _take_turn(
    context: Context,
    mover: MoverName,
    limit: int | None,
    stop: Callable[[], bool],
    progress: Progress,
) -> MoverTurn:
    count = partial(progress, context, mover)
    outcome, unreachable = Outcome(), ""
    try:
        with debounced_nudges():
            # One turn, and then the next mover: a queue that is fed as fast as it is worked off
            # would keep the drain for itself.
            outcome = MOVERS[mover](context, limit=limit, stop=stop, progress=count, once=True)
    except TransportUnavailable as error:
        unreachable = str(error)
    return MoverTurn(context=context, mover=mover, outcome=outcome, unreachable=unreachable)


def _pauses(patience: timedelta) -> Iterator[float]:
    """Yield pauses in seconds, longer each time, until nothing has moved for too long."""
    end, pause = monotonic() + patience.total_seconds(), _FIRST_PAUSE
    while monotonic() < end:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)
