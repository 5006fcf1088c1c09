"""Messages of which no code says what they are: they wait in the outbox, and are not sent to no one.

A contract or an event may be removed while messages of it are in the outbox. To send them would call
them sent although nothing takes them, and they would be gone when the deployment is rolled back.
"""

from collections.abc import Sequence

from outbox_inbox.contexts import Context
from outbox_inbox.events import meta
from outbox_inbox.exceptions import MessageRefused
from outbox_inbox.models import Kind
from outbox_inbox.queues import statements
from outbox_inbox.queues.run import Run
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.statements.stream_pages import StreamRow
from outbox_inbox.signals.logging import get_logger

_logger = get_logger("outbox_inbox.outbox")
_met: set[tuple[str, str]] = set()
"""Label and type of what this process has met and left, so that each is logged once."""


class Unclaimed(MessageRefused):
    """Neither the code of this process nor the database knows what the message is.

    The contract or event was removed, or only newer code has it. The message waits, without an
    attempt, for a process that has it; or discard it.
    """


def split_unclaimed(
    run: Run, rows: Sequence[PendingRow | StreamRow]
) -> tuple[set[int], dict[int, MessageRefused]]:
    """Return the ids of the rows to be sent, and why each of the others is left.

    What follows one that is left, within its key, is in neither (rule O3).
    """
    kinds = {(row.kind, row.type) for row in rows}
    unknown = {name for kind, name in kinds if not _is_known(run.context, kind, name)}
    if unknown:
        unknown -= statements.wanted_types(run.connection, run.context.label, sorted(unknown))
    if not unknown:
        return {row.id for row in rows}, {}
    _note_met(run.context, unknown)
    free: set[int] = set()
    left: dict[int, MessageRefused] = {}
    blocked: set[str] = set()
    for row in rows:
        if row.key is not None and row.key in blocked:
            continue
        if row.type not in unknown:
            free.add(row.id)
            continue
        left[row.id] = Unclaimed(f"no process has {row.type}, of version {row.schema_version}")
        if row.key is not None:
            blocked.add(row.key)
    return free, left


def _is_known(context: Context, kind: str, name: str) -> bool:
    if kind == Kind.INTEGRATION:
        return any(meta(cls).name == name for cls in context.publishes)
    return bool(context.consumers_of(name)) or context.event_class(name) is not None


def _note_met(context: Context, types: set[str]) -> None:
    for name in sorted(types):
        if (context.label, name) not in _met:
            _met.add((context.label, name))
            _logger.warning(
                "outbox of %s: no process has %s; its messages wait until one has it, or are to be "
                "discarded",
                context.label,
                name,
            )
