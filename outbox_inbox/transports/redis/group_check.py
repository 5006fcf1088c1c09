"""Compares how far a group has read with what the subscriber's database knows, and mends or reports it."""

from collections.abc import Sequence

from outbox_inbox import signals
from outbox_inbox.contexts import Context
from outbox_inbox.signals.logging import get_logger

from .client import Client, ResponseError, command
from .groups import Group, Id, groups_of, id_text, oldest_pending
from .positions import Positions

_logger = get_logger("outbox_inbox.redis")


def compare_positions(
    client: Client, context: Context, names: Sequence[str], positions: Positions
) -> None:
    """Compare how far the groups have read with what the database has, and report a difference."""
    label = context.label
    replies = client.ask(*(command("XINFO", "GROUPS", name) for name in names))
    for name, reply in zip(names, replies, strict=True):
        group = next((each for each in groups_of(reply) if each.label == label), None)
        if group is None:
            continue
        stored = positions.of(name)
        if stored is None:
            if not group.pending:  # what was read before positions were remembered
                positions.note(name, group.delivered)
        elif group.delivered < stored:
            positions.reset(name)
            positions.note(name, group.delivered)
            report_lost(
                context,
                f"what was published to {name} after {id_text(group.delivered)}",
                f"entries up to {id_text(stored)} were read and are in the inbox, and the server "
                "has lost them, with what came after: it was restored from an older copy, or a "
                "replica that was behind has taken its place",
            )
        elif group.delivered > stored and _has_acknowledged(client, name, stored, group):
            _read_again(client, context, name, stored)


def _has_acknowledged(client: Client, name: str, stored: Id, group: Group) -> bool:
    """Return whether the group counts something as stored of which the database does not know."""
    if not group.pending:
        return True
    (pending,) = client.ask_strictly(command("XPENDING", name, group.label))
    oldest = oldest_pending(pending) or group.delivered
    before = ("XRANGE", name, f"({id_text(stored)}", f"({id_text(oldest)}", "COUNT", 1)
    (found,) = client.ask_strictly(command(*before))
    return bool(found)


def _read_again(client: Client, context: Context, name: str, stored: Id) -> None:
    """Let the group read again what follows the last entry that the database knows of.

    After a crash it has that; the inbox drops what it has by its id. If the database was
    restored, or failed over to a copy that was behind, it has lost that, and gets it so.
    """
    label, last = context.label, id_text(stored)
    there, *_ = client.ask_strictly(
        command("XRANGE", name, last, last),
        command("MULTI"),
        command("XGROUP", "DESTROY", name, label),
        command("XGROUP", "CREATE", name, label, last),
        command("EXEC"),
    )
    _logger.warning(
        "inbox of %s: %s is read again from %s on, the last entry that the database knows of: a "
        "worker has crashed, or the database was restored from an older copy",
        label,
        name,
        last,
    )
    if not there and stored != (0, 0):
        # Streams are trimmed from their beginning: with this entry, later ones may be gone.
        report_lost(
            context,
            f"what was read of {name} after {last}, perhaps",
            "the database does not know of it, and some of it was deleted from the stream",
        )


def log_late_beginning(client: Client, context: Context, name: str) -> None:
    """Log that a new group comes too late for what was deleted already."""
    (reply,) = client.ask(command("XINFO", "STREAM", name))
    if isinstance(reply, ResponseError):
        return
    info = dict(zip(reply[::2], reply[1::2], strict=True))
    deleted = info.get(b"entries-added", 0) - info[b"length"]  # absent in Redis 6
    if deleted > 0:
        _logger.warning(
            "inbox of %s: its group on %s is new, and %d older entries were deleted before (KEEP): "
            "if they were for it, their publishers must send them again",
            context.label,
            name,
            deleted,
        )


def report_lost(context: Context, place: str, error: str) -> None:
    """Announce what a context has lost."""
    label = context.label
    signals.message_lost.send_robust(label, context=label, place=place, error=error)
