"""Deliveries that this process's code cannot handle are left to a process that can.

In a deployment old and new code run side by side. A delivery of a consumer, type or version that only
the new code has must neither fail here, attempt by attempt, nor be passed over within its key.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from outbox_inbox.contexts import Context
from outbox_inbox.queues import statements
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import ReadyRow, UnknownType

_logger = logging.getLogger("outbox_inbox.inbox")


@dataclass(slots=True)
class _Met:
    """What of a context's deliveries this process has met and could not handle."""

    context: Context
    types: set[UnknownType] = field(default_factory=set)


_met: dict[str, _Met] = {}


def unknown_types(context: Context) -> Sequence[UnknownType]:
    """Return what this process has met and could not handle: it is not read again."""
    met = _met.get(context.label)
    return sorted(met.types) if met and met.context is context else ()


def leave_unknown(run: Run, rows: Sequence[ReadyRow]) -> list[ReadyRow]:
    """Return the deliveries that this process can handle, and leave the others as they are.

    One that is left holds the later ones of its key, as a failed one would: they are handled after
    the process that has its consumer has handled it.
    """
    left = [row for row in rows if not _is_known(run.context, row)]
    if not left:
        return list(rows)
    heads: dict[tuple[str, str], ReadyRow] = {}
    for row in left:
        if row.key is not None:
            heads.setdefault((row.consumer, row.key), row)
    fresh = [row.id for row in heads.values() if not row.holds]
    if fresh:
        # Under the lock, which fails when another worker has had the partition since.
        with run.locked() as connection:
            statements.hold_deliveries(connection, fresh)
    _note_met(run.context, left)
    first = {pair: row.id for pair, row in heads.items()}
    unknown = {row.id for row in left}
    return [
        row
        for row in rows
        if row.id not in unknown
        and not (row.key is not None and row.id > first.get((row.consumer, row.key), row.id))
    ]


def _is_known(context: Context, row: ReadyRow) -> bool:
    consumer = context.consumers.get(row.consumer)
    return consumer is not None and consumer.knows(row.type, row.schema_version)


def _note_met(context: Context, rows: Sequence[ReadyRow]) -> None:
    met = _met.get(context.label)
    if met is None or met.context is not context:
        met = _met[context.label] = _Met(context)
    for row in rows:
        found = UnknownType(row.consumer, row.type, row.schema_version)
        if found not in met.types:
            met.types.add(found)
            _logger.warning(
                "%s: the code of this process has no consumer %r of %s, version %d; its deliveries are "
                "left to a process that has it. If it was renamed, run manage.py rename_consumer",
                context.label,
                *found,
            )
