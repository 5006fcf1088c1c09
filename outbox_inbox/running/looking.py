"""The look around: is there anything to do? One statement a database, for all its contexts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db import connections

from outbox_inbox import statements
from outbox_inbox.contexts import Context
from outbox_inbox.models import Queue
from outbox_inbox.partitions import partition_count
from outbox_inbox.wakeup import Work

WORK_OF: Mapping[Queue, Work] = {
    Queue.OUTBOX: "relay",
    Queue.INTAKE: "receive",
    Queue.INBOX: "dispatch",
}


def by_database(owners: Iterable[Context]) -> dict[str, list[str]]:
    """Return the labels of contexts by their database."""
    found: dict[str, list[str]] = defaultdict(list)
    for owner in owners:
        found[owner.database].append(owner.label)
    return dict(found)


def look_around(alias: str, labels: Sequence[str]) -> set[tuple[str, Work]]:
    """Return what there is to do for some contexts on a database.

    Receiving is always among it, unless the intake is paused or rests: only the transport knows.
    So is a queue whose partitions are not there, or not as many as the settings say: its mover
    makes them, or says what to do.
    """
    counts: Counter[tuple[str, str]] = Counter()
    busy: set[tuple[str, str]] = set()
    for label, queue, ready in statements.look_at_all(connections[alias], labels):
        counts[label, queue] += 1
        if ready:
            busy.add((label, queue))
    return {
        (label, work)
        for label in labels
        for queue, work in WORK_OF.items()
        if (label, queue.value) in busy or counts[label, queue.value] != partition_count(queue)
    }
