"""The read models of a context, and the functions and classes that keep them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from django.db import models

from outbox_inbox.events.marks import ProjectsMark, mark_of
from outbox_inbox.projections import Projection

from .consumers import Collector, Consumer, ConsumerFunction, by_type, readable_versions
from .declaring import models_of


@dataclass(frozen=True, eq=False, repr=False)
class ReadModel:
    """A read model of a context, with the functions or the class that keep it up to date.

    Fields:
        name: by which its subscription is stored.
        consumers: what is called, in the order of their definition.
        label: of the context.
        projection: the instance that keeps it; None: functions do.
    """

    name: str
    consumers: tuple[Consumer, ...]
    label: str
    projection: Projection | None = None

    def __repr__(self) -> str:
        return f"<ReadModel {self.label}.{self.name}>"

    @cached_property
    def by_type(self) -> Mapping[str, tuple[Consumer, ...]]:
        """Stored type name -> the consumers of such events."""
        return by_type(self.consumers)

    @cached_property
    def versions(self) -> Mapping[str, int]:
        """Stored type name -> the newest version that all its functions can read."""
        return readable_versions(each for made in self.consumers for each in made.functions)

    @cached_property
    def takes_envelopes(self) -> bool:
        """Whether a consumer takes the envelope beside the event."""
        return any(each.takes_envelope for each in self.consumers)

    @cached_property
    def models(self) -> tuple[type[models.Model], ...]:
        """The models of its tables; empty: it writes elsewhere, or they are not known (E018)."""
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


def is_projection(value: object) -> bool:
    """Return whether a value is a projection that is a class."""
    return isinstance(value, type) and issubclass(value, Projection) and value is not Projection


def collect_read_models(
    collector: Collector, functions: Iterable[FunctionType], classes: Iterable[type[Projection]]
) -> list[ReadModel]:
    """Return the read models of a context; two of one name are both there (check E011)."""
    by_name: dict[str, list[Consumer]] = {}
    for function in functions:
        mark = mark_of(function)
        if isinstance(mark, ProjectsMark):
            consumer = _consumer(collector, mark.into, function, mark)
            by_name.setdefault(mark.into, []).append(consumer)
    found = [ReadModel(name, tuple(made), collector.label) for name, made in by_name.items()]
    for cls in classes:
        projection = cls()
        consumer = _consumer(collector, cls.name, projection.apply, cls)
        found.append(ReadModel(cls.name, (consumer,), collector.label, projection))
    return found


def _consumer(
    collector: Collector,
    name: str,
    function: Callable[..., Any],
    options: ProjectsMark | type[Projection],
) -> Consumer:
    title = f"{name}: {function.__qualname__}"
    called = ConsumerFunction(
        name=title,
        call=function,
        events=collector.types_of(function, options.events),
        mode="list" if options.many else "message",
        takes_envelope=getattr(options, "takes_envelope", False),
    )
    return Consumer(
        name=title,
        kind="projection",
        functions=(called,),
        upcasters=collector.upcasters,
    )
