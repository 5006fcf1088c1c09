"""Projections: read models that a context keeps from the stream of its own events.

A projection is a function marked with ``@projects``, or a class:

    class CountryBoard(Projection, name="country_board", models=[Board], events=[Placed]):
        def apply(self, event): ...

It is called with every such event once, in the order of the stream, in the transaction that moves its
checkpoint on. It decides nothing: `record()` is refused there, since a rebuild would decide again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

from .events import DomainEvent, IntegrationEvent
from .events.marking import EventClass, Function, ProjectsMark, mark_projection

__all__ = ["Projection", "ProjectsMark", "applied_by", "applying", "projects"]


class Projection:
    """A read model as a class, for one that has several tables, or a way of its own to be emptied.

    Arguments of the class statement:
        name: by which it is known, as in ``manage.py rebuild_projection NAME``; stable.
        events: the classes of the events that it takes.
        models: the models of the tables that only it writes to. A rebuild fills copies of them and
            then changes places; without any, a rebuild calls `reset` and begins anew.
        batch: `apply` takes a list of events, all of one transaction; default False.
    """

    name: ClassVar[str] = ""
    events: ClassVar[tuple[EventClass, ...]] = ()
    models: ClassVar[tuple[Any, ...]] = ()
    batch: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        events: Iterable[EventClass] = (),
        models: Iterable[Any] = (),
        batch: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.name = mark_projection(cls, name)
        given: tuple[Any, ...] = tuple(events)
        cls.events, cls.models, cls.batch = given, tuple(models), batch
        for event in given:
            if not (isinstance(event, type) and issubclass(event, DomainEvent | IntegrationEvent)):
                raise TypeError(f"{cls.__name__}: events has {event!r}; expected classes of events")

    def apply(self, event: Any, /) -> None:
        """Take in an event, or with ``batch=True`` a list of them."""
        raise NotImplementedError

    def reset(self) -> None:
        """Empty the read model, in the open transaction; default: delete all rows of ``models``."""
        for model in self.models:
            model._default_manager.all().delete()


def projects(
    event: EventClass, *, into: str, batch: bool = False, takes_envelope: bool = False
) -> Callable[[Function], Function]:
    """Mark a function that keeps a read model from the events of its context's stream.

    Several functions may go into one read model: they share a subscription, and are called in the
    order of the stream. A function marked for several events takes them all in one order.

    Arguments:
        event: a class whose events are in the stream of this context.
        into: the read model: the name of a model of the context's app, as in "country_board" for
            CountryBoard.
        batch: it takes a list of events instead of one, all of one transaction.
        takes_envelope: it takes the `Envelope` as second argument (a list of them with batch).

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    return ProjectsMark.marker(event, into, batch=batch, takes_envelope=takes_envelope)


applied_by: ContextVar[str | None] = ContextVar("outbox_inbox_projection", default=None)
"""The name of the projection that is being called; None outside of one."""


@contextmanager
def applying(name: str) -> Iterator[None]:
    """Let `record()` know, within the block, that it is called by a projection."""
    token = applied_by.set(name)
    try:
        yield
    finally:
        applied_by.reset(token)
