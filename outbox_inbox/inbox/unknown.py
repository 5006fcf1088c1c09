"""Deliveries that this process's code cannot handle are left to a process that can.

In a deployment old and new code run side by side. A delivery of a consumer, type or version that only
the new code has must neither fail here, attempt by attempt, nor be passed over within its key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from outbox_inbox.contexts import Context
from outbox_inbox.queues import statements
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow, UnknownType
from outbox_inbox.signals.logging import get_logger

_logger = get_logger("outbox_inbox.inbox")


@dataclass(slots=True)
class _Met:
    """What of a context's deliveries this process has met and could not handle."""

    context: Context
    types: set[UnknownType] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    """Consumers whose state, or what else they read, was too new."""


_met: dict[str, _Met] = {}


def unknown_types(context: Context) -> Sequence[UnknownType]:
    """Return what this process has met and could not handle: see `statements.select_ready`."""
    met = _met.get(context.label)
    if met is None or met.context is not context:
        return ()
    # A consumer that is lacking is one condition, for which no message has to be read.
    lacking = {each.consumer for each in met.types}.difference(context.consumers)
    types = [each for each in met.types if each.consumer not in lacking]
    return sorted([*map(UnknownType, lacking), *types])


def leave_unknown(run: Run, rows: Sequence[ReadyRow]) -> list[ReadyRow]:
    """Return the deliveries that this process can handle, and leave the others as they are.

    One that is left holds the later ones of its key, as a failed one would: they are handled after
    the process that has its consumer has handled it.
    """
    known, left, heads = _sort_out(run.context, rows)
    if heads:
        # Under the lock, which fails when another worker has had the partition since.
        with run.locked() as connection:
            statements.hold_deliveries(connection, heads)
    if left:
        _note_met(run.context, left)
    return known


def note_newer_state(context: Context, row: ReadyRow, error: Exception) -> None:
    """Say once of each consumer that its state, or a stream that it reads, needs newer code."""
    met = _met_of(context)
    if row.consumer not in met.states:
        met.states.add(row.consumer)
        _logger.warning(
            "%s: the code of this process is too old for what the consumer '%s' has to read; such "
            "deliveries are left to a process of newer code: %s",
            context.label,
            row.consumer,
            error,
        )


def _sort_out(
    context: Context, rows: Sequence[ReadyRow]
) -> tuple[list[ReadyRow], list[ReadyRow], list[int]]:
    """Return what can be handled now, what is unknown, and the ids of what must hold its key."""
    known: list[ReadyRow] = []
    left: list[ReadyRow] = []
    heads: list[int] = []
    waiting: set[tuple[str, str]] = set()  # keys behind an unknown delivery
    handled: set[tuple[str, str]] = set()
    for row in rows:
        pair = None if row.key is None else (row.consumer, row.key)
        if _is_known(context, row):
            if pair is None or pair not in waiting:
                known.append(row)
            if pair is not None and pair not in waiting:
                handled.add(pair)
            continue
        left.append(row)
        if pair is None or pair in waiting:
            continue
        waiting.add(pair)
        # Behind one that may fail now, it is read again. Were both to hold the key, each would wait
        # for the other, for ever.
        if pair not in handled and not row.holds:
            heads.append(row.id)
    return known, left, heads


def _is_known(context: Context, row: ReadyRow) -> bool:
    consumer = context.consumers.get(row.consumer)
    return consumer is not None and consumer.knows(row.type, row.schema_version)


def _met_of(context: Context) -> _Met:
    met = _met.get(context.label)
    if met is None or met.context is not context:
        met = _met[context.label] = _Met(context)
    return met


def _note_met(context: Context, rows: Sequence[ReadyRow]) -> None:
    met = _met_of(context)
    for row in rows:
        found = UnknownType(row.consumer, row.type, row.schema_version)
        if found not in met.types:
            met.types.add(found)
            _logger.warning(
                "%s: the code of this process has no consumer '%s' of %s, version %d; its deliveries are "
                "left to a process that has it. If it was renamed, run manage.py rename_consumer",
                context.label,
                *found,
            )
