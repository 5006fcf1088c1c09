"""The names under which events are stored, and which context an event belongs to.

Messages outlive deployments: two classes of one name, or a name that changes, would make stored
messages unreadable.
"""

from collections.abc import Iterable, Iterator

from outbox_inbox.events import DomainEvent, EventClass, meta

from .declaring import label_of


def stored_name(event: EventClass) -> str:
    """Return the name under which messages of a class are stored."""
    label = label_of(event.__module__)
    return meta(event).name or (f"{label}." if label else "") + event.__name__


def by_stored_name(events: Iterable[EventClass]) -> dict[str, EventClass]:
    """Return the classes by the names under which their messages are stored."""
    found: dict[str, EventClass] = {}
    for event in events:
        name = stored_name(event)
        # Two versions of a contract may be declared side by side: the newer one reads both.
        if name not in found or meta(found[name]).version < meta(event).version:
            found[name] = event
    return found


def own_events(label: str) -> list[type[DomainEvent]]:
    """Return the domain events of a context that have been imported so far."""
    found = dict.fromkeys(_subclasses(DomainEvent))
    return [each for each in found if label_of(each.__module__) == label]


def _subclasses(cls: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)
