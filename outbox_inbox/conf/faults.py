"""Fault points: named places where a test can kill, stop, delay or cut off a running process.

The variable ``OUTBOX_INBOX_FAULTS`` arms them for a process, `armed` for a block of a test. Both take
entries with commas between them, each ``point:action`` with an optional ``@when``, and at most one
``seed``::

    with armed("relay.after_publish:kill@3,dispatch.after_handler:sleep=5@p0.01,seed=7"):
        ...

========== =====================================================================================
kill       SIGKILL to this process
stop       SIGSTOP to this process: frozen until it gets SIGCONT
raise      raise `FaultInjected`
sleep=5    wait so many seconds
disconnect shut down the socket of each database connection that this thread has open; with a
           database without sockets (SQLite) raise `Disconnected`, an OperationalError
========== =====================================================================================

Without ``@when`` a fault strikes at every hit; ``@3`` at the third hit in this process only;
``@p0.01`` at each hit with that probability. Without a seed a random one is chosen and logged, so
that a run can be repeated. Several entries may have the same point.
"""

import itertools
import math
import os
import random
import re
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, NoReturn

from django.conf import settings
from django.db import Error, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.exceptions import OutboxInboxError, SettingsError
from outbox_inbox.signals.logging import get_logger


def _named(**steps: str) -> frozenset[str]:
    return frozenset(f"{mover}.{step}" for mover, texts in steps.items() for step in texts.split())


POINTS: Final = _named(
    record="before_insert after_insert",
    relay="after_lock after_select before_publish after_publish before_mark after_mark after_commit",
    receive="after_read after_insert after_commit after_ack",
    dispatch="after_claim before_handler after_handler before_commit after_commit",
)
PROJECT_POINTS: Final = _named(
    project="after_read before_apply after_apply before_commit after_commit",
    rebuild="after_begin before_swap after_swap",
)
TRANSFER_POINTS: Final = _named(
    transfer="after_begin after_chunk after_copy after_pause before_close after_close"
    " before_finish after_finish before_open after_open after_abort"
)
"""Steps of ``manage.py transfer_context``; no other process reaches them."""

ALL_POINTS: Final = POINTS | PROJECT_POINTS | TRANSFER_POINTS

_ENTRY = re.compile(
    r"(?P<point>[^:=@]+):(?P<action>[^:=@]+)(=(?P<value>[^@]*))?(@(?P<when>.*))?", re.DOTALL
)
_NUMBER = re.compile(r"\d+(\.\d+)?")

logger = get_logger(__name__)


class FaultInjected(OutboxInboxError):
    """A fault point raised this on purpose, because OUTBOX_INBOX_FAULTS says so."""


class Disconnected(FaultInjected, OperationalError):
    """A fault point simulates a lost connection to a database without sockets."""


class _Fault(NamedTuple):
    act: Callable[[], None]
    strikes: Callable[[], bool]


_armed: dict[str, tuple[_Fault, ...]] = {}


def point(name: str) -> None:
    """Run the faults that are armed for this point; without any it costs one look-up in a dictionary."""
    faults = _armed.get(name)
    if faults is not None:
        # All count this hit before the first acts: it may raise.
        for fault in [each for each in faults if each.strikes()]:
            fault.act()


def arm(spec: str | None = None) -> None:
    """Arm the faults of a specification instead of the current ones; ``""`` disarms all.

    Called once when the process starts. Hits are counted from then on.

    Arguments:
        spec: see the docstring of this module; default: the variable OUTBOX_INBOX_FAULTS.

    Raises:
        SettingsError: a point or an action is unknown, or the text is malformed (all mistakes at
            once); or DEBUG is off and OUTBOX_INBOX_ALLOW_FAULTS is not 1.
    """
    given = os.environ.get("OUTBOX_INBOX_FAULTS", "") if spec is None else spec
    faults = _parse_spec(given)
    if faults and not (settings.DEBUG or os.environ.get("OUTBOX_INBOX_ALLOW_FAULTS") == "1"):
        raise SettingsError(
            f"OUTBOX_INBOX_FAULTS={given!r} would break this process on purpose, and DEBUG is "
            "off. Unset it, or set OUTBOX_INBOX_ALLOW_FAULTS=1 if this is not a production system."
        )
    _replace_armed(faults)


@contextmanager
def armed(spec: str) -> Iterator[None]:
    """Arm a specification for a block, whatever DEBUG is, and restore the previous one; for tests."""
    before = dict(_armed)
    _replace_armed(_parse_spec(spec))
    try:
        yield
    finally:
        _replace_armed(before)


def _replace_armed(faults: dict[str, tuple[_Fault, ...]]) -> None:
    _armed.clear()
    _armed.update(faults)


def _parse_spec(spec: str) -> dict[str, tuple[_Fault, ...]]:
    entries = [entry.strip() for entry in spec.split(",") if entry.strip()]
    problems: list[str] = []
    seed = _parse_seed(entries, problems)
    found: dict[str, tuple[_Fault, ...]] = {}
    for number, entry in enumerate(entries):
        if not entry.startswith("seed="):
            # A generator for each entry, so that hits of one point do not change the draws of another.
            draw = random.Random(f"{seed}:{number}").random  # noqa: S311 - not for secrets
            try:
                name, fault = _parse_entry(entry, draw)
            except ValueError as error:
                problems.append(f"{entry!r}: {error}")
            else:
                found[name] = (*found.get(name, ()), fault)
    if problems:
        raise SettingsError("OUTBOX_INBOX_FAULTS: " + "; ".join(problems))
    if found:
        logger.warning("Fault points armed: %s (seed=%s)", spec, seed)
    return found


def _parse_seed(entries: list[str], problems: list[str]) -> int:
    given = [entry.removeprefix("seed=") for entry in entries if entry.startswith("seed=")]
    if not given:
        return secrets.randbelow(2**32)
    if len(given) == 1 and given[0].isdecimal():
        return int(given[0])
    problems.append(f"the seed must be one whole number, such as seed=7, not {', '.join(given)}")
    return 0


def _parse_entry(entry: str, draw: Callable[[], float]) -> tuple[str, _Fault]:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise ValueError("expected point:action, point:action@3 or point:action@p0.01")
    name, action, value, when = match.group("point", "action", "value", "when")
    if name not in ALL_POINTS:
        raise ValueError(f"no point {name!r}; the points are {', '.join(sorted(ALL_POINTS))}")
    if action not in _ACTIONS:
        raise ValueError(f"no action {action!r}; the actions are {', '.join(_ACTIONS)}")
    seconds = _parse_seconds(action, value)
    return name, _Fault(lambda: _ACTIONS[action](name, seconds), _parse_when(when, draw))


def _parse_seconds(action: str, value: str | None) -> float:
    if action != "sleep":
        if value is not None:
            raise ValueError(f"{action} takes no value")
        return 0.0
    if value is None or not _NUMBER.fullmatch(value):
        raise ValueError("sleep takes a number of seconds, such as sleep=5 or sleep=0.2")
    return float(value)


def _parse_when(when: str | None, draw: Callable[[], float]) -> Callable[[], bool]:
    if when is None:
        return lambda: True
    if when.isdecimal() and int(when) > 0:
        hits, wanted = itertools.count(1), int(when)
        return lambda: next(hits) == wanted
    text = when.removeprefix("p")
    probability = float(text) if text != when and _NUMBER.fullmatch(text) else math.nan
    if 0 < probability <= 1:
        return lambda: draw() < probability
    raise ValueError(f"@{when} is neither a hit (@1, @2, ...) nor a probability (@p0.01 to @p1)")


def _raise_fault(name: str, _: float) -> NoReturn:
    raise FaultInjected(f"the fault point {name} raised this on purpose")


def _cut_connections(name: str, _: float) -> None:
    used = [each for each in connections.all(initialized_only=True) if each.connection is not None]
    cut = [_cut_socket(connection) for connection in used]
    if used and not any(cut):
        raise Disconnected(f"the fault point {name} lost the database connection on purpose")


def _cut_socket(connection: BaseDatabaseWrapper) -> bool:
    """Cut the socket of a connection without the driver's knowledge; False if it has none."""
    fileno = getattr(connection.connection, "fileno", None)
    if fileno is None:
        return False
    try:
        with connection.wrap_database_errors:
            number = fileno()
    except Error:
        return True  # lost already
    # mysqlclient still returns the descriptor of a lost connection; by now it may belong to
    # another one.
    if connection.vendor == "mysql" and not connection.is_usable():
        return True
    with socket.socket(fileno=os.dup(number)) as same, suppress(OSError):
        same.shutdown(socket.SHUT_RDWR)
    return True


_ACTIONS: Final[dict[str, Callable[[str, float], None]]] = {
    "kill": lambda _, __: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _, __: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _raise_fault,
    "sleep": lambda _, seconds: time.sleep(seconds),
    "disconnect": _cut_connections,
}
