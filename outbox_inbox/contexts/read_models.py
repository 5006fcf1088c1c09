"""Finds the projections of a context: marked functions, and classes derived from Projection."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any
from zlib import crc32

from django.db import models

from outbox_inbox.events.marking import EventClass, ProjectsMark, marks_of
from outbox_inbox.projections import Projection

from .consumers import Consumer, Upcasters, events_of
from .declaring import models_of


@dataclass(frozen=True, eq=False, repr=False)
class ReadModel:
    """A read model of a context, with what keeps it.

    Fields:
        name: by which its subscription is stored.
        consumers: what is called, in the order of their definition.
        label: of the context.
        projection: the class that keeps it; None: functions do.
    """

    name: str
    consumers: tuple[Consumer, ...]
    label: str
    projection: Projection | None = None

    def __repr__(self) -> str:
        return f"<ReadModel {self.label}.{self.name}>"

    @cached_property
    def by_type(self) -> Mapping[str, tuple[Consumer, ...]]:
        """Stored type name -> what takes such events."""
        names = dict.fromkeys(name for each in self.consumers for name in each.events)
        return {
            name: tuple(each for each in self.consumers if name in each.events) for name in names
        }

    @cached_property
    def takes_envelopes(self) -> bool:
        """Whether more of an event than itself is asked for."""
        return any(each.takes_envelope for each in self.consumers)

    @cached_property
    def models(self) -> tuple[type[models.Model], ...]:
        """The models of its tables; empty: what it writes to is elsewhere, or not known (E018)."""
        if self.projection is not None:
            return tuple(self.projection.models)
        wanted = self.name.replace("_", "").lower()
        return tuple(each for each in models_of(self.label) if each._meta.model_name == wanted)

    def reset(self) -> None:
        """Empty it, in the open transaction."""
        if self.projection is not None:
            self.projection.reset()
            return
        for model in self.models:
            model._default_manager.all().delete()


def collect_read_models(
    functions: Iterable[FunctionType],
    modules: Iterable[ModuleType],
    label: str,
    type_name: Callable[[EventClass], str],
    upcasters: Mapping[EventClass, Upcasters],
) -> list[ReadModel]:
    """Return the read models of a context; two of one name are both there (check E011).

    Raises:
        SettingsError: a function reads one type twice.
    """
    by_name: dict[str, list[Consumer]] = {}
    for function in functions:
        marks = [mark for mark in marks_of(function) if isinstance(mark, ProjectsMark)]
        if marks:
            events = events_of(function, marks, type_name)
            made = _consumer(marks[0].into, function, events, upcasters, marks[0])
            by_name.setdefault(marks[0].into, []).append(made)
    kept = [ReadModel(name, tuple(found), label) for name, found in by_name.items()]
    for cls in _classes(modules):
        projection = cls()
        events = {type_name(event): event for event in cls.events}
        consumer = _consumer(cls.name, projection.apply, events, upcasters, cls)
        kept.append(ReadModel(cls.name, (consumer,), label, projection))
    return kept


def _classes(modules: Iterable[ModuleType]) -> list[type[Projection]]:
    found = {
        value: None
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Projection)
        and value is not Projection
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }
    return list(found)


def _consumer(
    name: str,
    function: Callable[..., Any],
    events: Mapping[str, EventClass],
    upcasters: Mapping[EventClass, Upcasters],
    options: ProjectsMark | type[Projection],
) -> Consumer:
    mine = {event: upcasters[event] for event in events.values() if event in upcasters}
    return Consumer(
        name=f"{name}: {function.__qualname__}",
        kind="projection",
        events=MappingProxyType(dict(events)),
        function=function,
        mode="list" if options.batch else "message",
        takes_envelope=getattr(options, "takes_envelope", False),
        upcasters_by_event=MappingProxyType(mine),
        hash=crc32(name.encode()),
    )
