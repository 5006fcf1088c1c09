"""The movers by the label of a context, and how they crash: for tests that look at single turns.

`drain` runs everything until all is quiet. A test of what happens in between (a crash, an outage, a
second worker) needs one turn of one mover, and the state that a killed process leaves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn
from unittest.mock import patch

from django.db import transaction

from outbox_inbox import Envelope, record
from outbox_inbox.conf import faults
from outbox_inbox.contexts import context_of, contexts, get_context
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.models import Partition
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues import run
from outbox_inbox.queues.outcome import Outcome

from .clock import advance


class Crash(BaseException):
    """The end of a process without clean-up; the database rolls back its open transaction."""


class PointNotReached(AssertionError):
    """A fault point was not hit as often as the test expects."""


def record_events(*events: Any, **terms: Any) -> list[Envelope]:
    """Record events of one context in a transaction of their own; terms as `record` takes them."""
    with transaction.atomic(using=context_of(events[0]).database):
        return record(*events, **terms)


def relay(label: str, **options: Any) -> Outcome:
    """Relay the outbox of a context once; options as `relay_outbox` takes them."""
    return relay_outbox(get_context(label), **options)


def receive(label: str, **options: Any) -> Outcome:
    """Receive for a context once; options as `receive_messages` takes them."""
    return receive_messages(get_context(label), **options)


def dispatch(label: str, **options: Any) -> Outcome:
    """Dispatch the inbox of a context once; options as `dispatch_inbox` takes them."""
    return dispatch_inbox(get_context(label), **options)


def come_due() -> None:
    """Let every back-off, outage and scheduled message come due."""
    advance(timedelta(days=365))


def expire_runs() -> None:
    """Let so much time pass that a run that was not ended counts as crashed."""
    for using in {context.database for context in contexts()}:
        Partition.objects.using(using).update(last_run_at=None)


def crash() -> NoReturn:
    """End this process as a kill does."""
    raise Crash


@contextmanager
def crashing() -> Iterator[None]:
    """Expect a `Crash` in the block, and leave what a killed process leaves."""
    # A killed process cannot give back the token of its run.
    with patch.object(run, "_end_run"):
        try:
            yield
        except Crash:
            expire_runs()
            return
        raise AssertionError("nothing crashed")


@contextmanager
def striking(name: str, act: Callable[[], object], hit: int = 1) -> Iterator[None]:
    """Call a function at one hit of a fault point in the block, before the faults armed there.

    Raises:
        PointNotReached: the point was hit less often.
        ValueError: there is no such point.
    """
    if name not in faults.ALL_POINTS:
        raise ValueError(f"no fault point {name!r}; known: {', '.join(sorted(faults.ALL_POINTS))}")
    hits = 0
    point = faults.point

    def strike(reached: str) -> None:
        nonlocal hits
        if reached == name:
            hits += 1
            if hits == hit:
                act()
        point(reached)

    with patch.object(faults, "point", strike):
        yield
    if hits < hit:
        raise PointNotReached(f"{name} was hit {hits} times; expected at least {hit}")
