"""What is in force for the queues of a context: its source, and its numbers of partitions.

In a deployment processes with old and with new settings run side by side. Were each of them to act by
its own settings, the messages of a key would be in two places, and overtake each other. So the
database says what is in force. It is read in the statement that places a message, and changed by
``manage.py repartition`` alone, which waits for all transactions that have placed one.
"""

from collections.abc import Iterable, Mapping

from django.core.signals import setting_changed
from django.db import connections
from django.db.transaction import Atomic

from outbox_inbox.conf import Source, settings
from outbox_inbox.contexts import Context, contexts
from outbox_inbox.models import Checkpoint, Partition, Queue, QueueLayout, StoredEvent
from outbox_inbox.signals.logging import get_logger

from .statements import Layout, fetch_layout
from .statements.dialects import dialect_class
from .statements.layouts import RELAY

_logger = get_logger("outbox_inbox.queues")
_reported: set[tuple[Layout, Layout]] = set()
"""What the settings of this process and the database say, so that each difference is logged once."""
_seen: dict[tuple[str, str], Source] = {}
"""Database and label -> the source that was in force when this process recorded something."""

_stored: set[tuple[str, str]] = set()
"""Database and label of the contexts that have a layout, as this process has seen."""
_made: dict[tuple[str, str], Atomic] = {}
"""The same of contexts whose layout this process has stored -> the transaction in which it did."""


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "INSTALLED_APPS", "DATABASES"):
        _seen.clear()
        _reported.clear()


setting_changed.connect(_forget, dispatch_uid="outbox_inbox.queues.layouts")


def layout_in_settings(label: str) -> Layout:
    """Return what the settings of this process say of a context, which may not be in force."""
    for context in contexts():
        if context.label == label:
            return declared_layout(context)
    numbers = settings().partitions
    return Layout(label, "outbox", numbers.outbox, numbers.inbox)


def declared_layout(context: Context) -> Layout:
    """Return what the settings of this process say of a context, which may not be in force.

    An outbox has one partition where the stream is the source. There one checkpoint serves all
    keys, and the outbox has only what could not be sent.
    """
    numbers = settings().partitions
    outbox = 1 if context.source == "stream" else numbers.outbox
    return Layout(context.label, context.source, outbox, numbers.inbox)


def likely_source(context: Context) -> Source:
    """Return where `record` tries to store an event first: the source that was in force last."""
    return _seen.get((context.database, context.label), context.source)


def note_source(context: Context, source: Source) -> None:
    """Remember which source is in force; it costs a statement when that was changed, and no more."""
    _seen[context.database, context.label] = source


def stored_layout(context: Context) -> Layout:
    """Return what is in force in a context: what its database says, or the settings before that."""
    found = fetch_layout(connections[context.database], context.label)
    return found or declared_layout(context)


def require_layout(context: Context) -> None:
    """Store what is in force in a context, if nothing is; in the transaction that is about to record.

    Otherwise processes with other settings would each record by their own until the first mover comes.
    """
    name = (context.database, context.label)
    if name in _stored:
        return
    blocks = connections[context.database].atomic_blocks
    if context.label not in ensure_layouts(context.database, context):
        _made[name] = blocks[0]
    elif _made.get(name) not in blocks:  # a rollback of the same transaction would take it back
        _stored.add(name)


def ensure_layouts(using: str, only: Context | None = None) -> Mapping[str, Layout]:
    """Store what is in force for the contexts of a database that have no layout; return what there was.

    They get what the settings say, but as many partitions as there are, and the source that has been at
    work. ``only``: for this one of them; default: for all, and what is returned is complete.
    """
    rows, columns = QueueLayout.objects.using(using), Layout._fields
    found = {row[0]: Layout(*row) for row in rows.values_list(*columns)}
    mine = contexts() if only is None else [only]
    missing = [each for each in mine if each.database == using and each.label not in found]
    if missing:
        made = _first_layouts(using, missing)
        rows.bulk_create((QueueLayout(**each._asdict()) for each in made), ignore_conflicts=True)
        if only is None:  # another process may have been first
            found = {row[0]: Layout(*row) for row in rows.values_list(*columns)}
    return found


def _first_layouts(using: str, missing: Iterable[Context]) -> Iterable[Layout]:
    partitions = Partition.objects.using(using)
    for context in missing:
        wanted = declared_layout(context)
        mine = partitions.filter(context=context.label)
        found = wanted._replace(
            outbox=mine.filter(queue=Queue.OUTBOX).count() or wanted.outbox,
            inbox=mine.filter(queue=Queue.INBOX).count() or wanted.inbox,
        )
        if found.outbox != 1 or not dialect_class(connections[using]).follows_streams:
            found = found._replace(source="outbox")
        elif found.source == "outbox" and _records_to_stream(using, context.label):
            found = found._replace(source="stream")
        yield found


def _records_to_stream(using: str, label: str) -> bool:
    """Return whether processes with other settings have recorded, and no relay has come since."""
    # It would not follow the stream, where the outbox is the source and was it always.
    if Checkpoint.objects.using(using).filter(context=label, subscription=RELAY).exists():
        return False
    events = StoredEvent.objects.using(using).filter(context=label).order_by("-position")
    return events.values_list("in_outbox", flat=True).first() is False


def report_difference(wanted: Layout, found: Layout) -> None:
    """Log, once a process, that what its settings say is not what is in force."""
    if found != wanted and (wanted, found) not in _reported:
        _reported.add((wanted, found))
        _logger.warning("%s: %s", wanted.context, difference_text(wanted, found))


def difference_text(wanted: Layout, found: Layout) -> str:
    """Return in what the settings differ from what is in force, and what to do."""
    said = [
        f"{name} {getattr(found, column)} is in force, and not {getattr(wanted, column)}"
        for column, name in _NAMES.items()
        if getattr(found, column) != getattr(wanted, column)
    ]
    return f"{'; '.join(said)} as in the settings: run manage.py repartition to change it"


_NAMES = {
    "source": "the source",
    "outbox": 'PARTITIONS["outbox"]',
    "inbox": 'PARTITIONS["inbox"]',
}
