"""Work through the queues of many contexts until all is quiet: what drains and tests are made of.

One process does everything in turn: relay, receive, dispatch, project, context after context, round after
round, since what one context handles is often what the next one has to send.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from outbox_inbox.contexts import Context, contexts
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues.outcome import Outcome, ignore, never
from outbox_inbox.queues.wakeup import MoverName, debounced_nudges
from outbox_inbox.streams.projecting import update_projections

PATIENCE = timedelta(seconds=30)
"""How long a drain waits for others to go on with the partitions they are at."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two looks at a busy partition


class Progress(Protocol):
    """Is told how many messages were moved just now."""

    def __call__(self, context: Context, work: MoverName, count: int, /) -> None:
        """Take note of ``count`` more messages."""


class Mover(Protocol):
    """The relay, the receiver, the dispatcher, or what keeps the read models."""

    def __call__(
        self,
        context: Context,
        *,
        limit: int | None = None,
        stop: Callable[[], bool] = never,
        progress: Callable[[int], None] = ignore,
    ) -> Outcome:
        """Move what is due in one context."""


WORK: Mapping[MoverName, Mover] = {
    "relay": relay_outbox,
    "receive": receive_messages,
    "dispatch": dispatch_inbox,
    "project": update_projections,
}
"""What there is to do for a context, in the order in which a message meets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverTurn:
    """One mover's turn at one context.

    Fields:
        owner: the context.
        work: which mover.
        outcome: what it did.
        unreachable: why the transport could not be asked, or empty.
    """

    context: Context
    work: MoverName
    outcome: Outcome
    unreachable: str = ""


@dataclass(slots=True, kw_only=True)
class Drained:
    """What a drain did for one context.

    Fields:
        context: its label.
        relayed, received, dispatched, projected: what the movers did; `busy` says how many partitions
            were left to others, at the last look.
        unreachable: why the transport could not be asked, or empty.
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

    def add(self, step: MoverTurn) -> None:
        """Count one step."""
        name = _DID[step.work]
        before: Outcome = getattr(self, name)
        setattr(self, name, replace(before + step.outcome, busy=step.outcome.busy))
        self.unreachable = step.unreachable or self.unreachable


_DID: Mapping[MoverName, str] = {
    "relay": "relayed",
    "receive": "received",
    "dispatch": "dispatched",
    "project": "projected",
}


def _to_nobody(context: Context, work: MoverName, count: int, /) -> None:
    """Report to nobody."""


def _not_waiting(busy: int, /) -> None:
    """Tell nobody."""


def drain_all(
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress = _to_nobody,
    on_busy: Callable[[int], None] = _not_waiting,
    patience: timedelta = PATIENCE,
) -> list[Drained]:
    """Relay, receive, dispatch and project everywhere until nothing is left to be done now.

    What is scheduled, backing off, parked, paused or resting is not waited for.

    Arguments:
        limit: move at most so many messages; default: until all is quiet.
        stop: asked between batches; true ends the drain.
        progress: told what each batch has moved.
        on_busy: told how many partitions others are at, when the drain begins to wait for them.
        patience: how long it waits for them without anything moving; default 30 s.

    Returns:
        One entry a context, by label.
    """
    return drain(
        None, limit=limit, stop=stop, progress=progress, on_busy=on_busy, patience=patience
    )


def drain(
    chosen: Iterable[Context] | None,
    works: Sequence[MoverName] = tuple(WORK),
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress = _to_nobody,
    on_busy: Callable[[int], None] = _not_waiting,
    patience: timedelta = PATIENCE,
) -> list[Drained]:
    """Do as `drain_all`, for some contexts (None: all) and with some of the movers."""
    owners = contexts() if chosen is None else tuple(chosen)
    found = {context.label: Drained(context=context.label) for context in owners}
    steps = rounds(owners, works, limit=limit, stop=stop, progress=progress, on_busy=on_busy,
                   patience=patience)  # fmt: skip
    for step in steps:
        found[step.context.label].add(step)
    return list(found.values())


def rounds(
    owners: Sequence[Context],
    works: Sequence[MoverName] = tuple(WORK),
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Progress = _to_nobody,
    on_busy: Callable[[int], None] = _not_waiting,
    patience: timedelta = PATIENCE,
) -> Iterator[MoverTurn]:
    """Yield the steps of a drain as they are done; see `drain_all`."""
    left = limit
    waiting = _Waiting(patience, on_busy)
    while not stop():
        moved, busy = False, 0
        for step in _round(owners, works, left, stop, progress):
            yield step
            moved, busy = moved or step.outcome.steps > 0, busy + step.outcome.busy
            left = None if left is None else left - _touched(step.outcome)
            if left is not None and left <= 0:
                return
        if moved:
            waiting.begin_anew()
        elif not busy or not waiting.go_on(busy):
            return


def _round(
    owners: Sequence[Context],
    works: Sequence[MoverName],
    left: int | None,
    stop: Callable[[], bool],
    progress: Progress,
) -> Iterator[MoverTurn]:
    for context in owners:
        for work in works:
            if stop():
                return
            step = _step(context, work, left, stop, progress)
            left = None if left is None else left - _touched(step.outcome)
            yield step


def _step(
    context: Context,
    work: MoverName,
    left: int | None,
    stop: Callable[[], bool],
    progress: Progress,
) -> MoverTurn:
    def told(count: int) -> None:
        progress(context, work, count)

    try:
        with debounced_nudges():
            outcome = WORK[work](context, limit=left, stop=stop, progress=told)
    except TransportUnavailable as error:
        return MoverTurn(context=context, work=work, outcome=Outcome(), unreachable=str(error))
    return MoverTurn(context=context, work=work, outcome=outcome)


def _touched(outcome: Outcome) -> int:
    return outcome.done + outcome.failed + outcome.dead


class _Waiting:
    """Waits for others, longer each time, until nothing has moved for too long."""

    def __init__(self, patience: timedelta, on_busy: Callable[[int], None]) -> None:
        self._patience = patience.total_seconds()
        self._on_busy = on_busy
        self.begin_anew()

    def begin_anew(self) -> None:
        self._since: float | None = None
        self._pause = _FIRST_PAUSE

    def go_on(self, busy: int) -> bool:
        """Pause a moment; false when it has lasted long enough."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._on_busy(busy)
        if now - self._since >= self._patience:
            return False
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True
