"""Finds the processes of a context: classes derived from Process, as consumers of their events."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, cast
from zlib import crc32

from outbox_inbox.events.marking import EventClass
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.processes import MAX_PROCESS_NAME, Process, TimedOut

from .consumers import Consumer, Upcasters


def process_classes(modules: Iterable[ModuleType]) -> list[type[Process]]:
    """Return the processes that are defined in the modules, in order of definition."""
    found = {
        value: None
        for module in modules
        for value in list(vars(module).values())
        if isinstance(value, type)
        and issubclass(value, Process)
        and value.routes
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }
    return list(found)


def collect_processes(
    modules: Iterable[ModuleType],
    label: str,
    package: str,
    type_name: Callable[[EventClass], str],
    upcasters: Mapping[EventClass, Upcasters],
) -> Iterator[Consumer]:
    """Yield a consumer for each process; it takes its events and its own time-outs.

    Raises:
        SettingsError: a name is too long to be stored, or a process reads one type twice.
    """
    for cls in process_classes(modules):
        name = name_of(cls, label, package)
        events: dict[str, EventClass] = {}
        for event in cls.routes:
            other = events.setdefault(type_name(event), event)
            if other is not event:
                raise SettingsError(
                    f"{name} takes two classes of {type_name(event)}: {other.__module__} and "
                    f"{event.__module__}; keep one"
                )
        if cls.time_outs:
            events[time_out_type(name)] = TimedOut
        versions = {event: upcasters[event] for event in events.values() if event in upcasters}
        # The state is upcast like an event; see `outbox_inbox.inbox.processes`.
        state = cast(EventClass, cls)
        if state in upcasters:
            versions[state] = upcasters[state]
        yield Consumer(
            name=name,
            kind="process",
            events=MappingProxyType(events),
            function=cast(Callable[..., Any], cls),
            mode=cls.transaction,
            upcasters_by_event=MappingProxyType(versions),
            hash=crc32(name.encode()),
        )


def name_of(cls: type[Process], label: str, package: str) -> str:
    """Return the name under which a process of this context is stored.

    Raises:
        SettingsError: it is too long.
    """
    path = f"{cls.__module__}.{cls.__qualname__}".removeprefix(f"{package}.")
    name = cls.process_name or f"{label}.{path}"
    if len(name) > MAX_PROCESS_NAME:
        raise SettingsError(
            f"the process name {name!r} is longer than {MAX_PROCESS_NAME} characters; "
            "give the class a shorter one with name="
        )
    return name


def time_out_type(name: str) -> str:
    """Return the stored type name of the time-outs of a process."""
    return f"{name}.TimedOut"
