"""The processes of a context, as consumers of their events and of their own time-outs."""

from collections.abc import Iterable, Iterator
from types import MappingProxyType

from outbox_inbox.events import EventClass
from outbox_inbox.processes import MAX_PROCESS_NAME, Process, TimedOut

from .consumers import Collector, Consumer


def is_process(value: object) -> bool:
    """Return whether a value is a process that takes events."""
    return isinstance(value, type) and issubclass(value, Process) and bool(value.routes)


def collect_processes(collector: Collector, classes: Iterable[type[Process]]) -> Iterator[Consumer]:
    """Yield a consumer for each process; it takes its events and its own time-outs.

    Raises:
        SettingsError: a name is too long to be stored, or a process reads one type twice.
    """
    for cls in classes:
        name = collector.name_of(cls, cls.process_name, MAX_PROCESS_NAME)
        events: dict[str, EventClass] = {**collector.types_of(cls, cls.routes)}
        if cls.time_outs:
            events[time_out_type(name)] = TimedOut
        yield Consumer(
            name=name,
            kind="process",
            events=MappingProxyType(events),
            function=cls,
            mode=cls.transaction,
            upcasters=collector.upcasters,
        )


def time_out_type(name: str) -> str:
    """Return the stored type name of the time-outs of a process."""
    return f"{name}.TimedOut"
