"""Projections: read models that a context keeps from the stream of its own events.

A projection is a function marked with ``@projects``, or a class:

    class CountryBoard(Projection, name="country_board", models=[Board], events=[Placed]):
        def apply(self, event): ...

It is called with every such event once, in the order of the stream, in the transaction that advances
its checkpoint. It decides nothing: `record()` is refused there, since a rebuild would decide again.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, overload

from .events import DomainEvent, EventClass, IntegrationEvent
from .events.decorators import E1, E2, E3, E4, E5, E6, NONE, Marker
from .events.envelope import Envelope
from .events.marks import Function, ProjectsMark, boolean, fit_name, marker, require_events


class Projection:
    """A read model as a class, for one with several tables or with a way of its own to empty them.

    Arguments of the class statement:
        name: by which it is known, as in ``manage.py rebuild_projection NAME``; stable.
        events: the classes of the events that it takes.
        models: the models of the tables that only it writes to. A rebuild fills copies of them and
            then swaps the tables; without any, a rebuild calls `reset` and begins anew.
        many: `apply` takes a list of events, all of one transaction; default False.

    Raises:
        TypeError, ValueError: in the class statement itself, for an argument that does not fit.
    """

    name: ClassVar[str] = ""
    events: ClassVar[tuple[EventClass, ...]] = ()
    models: ClassVar[tuple[Any, ...]] = ()
    many: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        events: Iterable[EventClass] = (),
        models: Iterable[Any] = (),
        many: bool = False,
    ) -> None:
        super().__init_subclass__()
        if not name:
            raise ValueError(
                f'{cls.__name__} has no name; give it one: {cls.__name__}(Projection, name="…")'
            )
        cls.name = fit_name("name", name)
        given: tuple[Any, ...] = tuple(events)
        cls.events, cls.models, cls.many = given, tuple(models), many
        for event in given:
            if not (isinstance(event, type) and issubclass(event, DomainEvent | IntegrationEvent)):
                raise TypeError(f"{cls.__name__}: events has {event!r}; expected classes of events")

    def apply(self, event: Any, /) -> None:
        """Take in an event, or with ``many=True`` a list of them."""
        raise NotImplementedError

    def reset(self) -> None:
        """Empty the read model, in the open transaction; default: delete all rows of ``models``."""
        for model in self.models:
            model._default_manager.all().delete()


# fmt: off
@overload
def projects(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *,
    into: str, many: Literal[False] = ..., takes_envelope: Literal[False] = ...,
) -> Marker[[E1 | E2 | E3 | E4 | E5 | E6], None]: ...
@overload
def projects(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, into: str,
    many: Literal[False] = ..., takes_envelope: Literal[True],
) -> Marker[[E1 | E2 | E3 | E4 | E5 | E6, Envelope], None]: ...
@overload
def projects(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, into: str,
    many: Literal[True], takes_envelope: Literal[False] = ...,
) -> Marker[[list[E1 | E2 | E3 | E4 | E5 | E6]], None]: ...
@overload
def projects(
    a: type[E1], b: type[E2] = NONE, c: type[E3] = NONE, d: type[E4] = NONE, e: type[E5] = NONE,
    f: type[E6] = NONE, /, *, into: str,
    many: Literal[True], takes_envelope: Literal[True],
) -> Marker[[list[E1 | E2 | E3 | E4 | E5 | E6], list[Envelope]], None]: ...
@overload
def projects(
    a: EventClass, b: EventClass, c: EventClass, d: EventClass, e: EventClass, f: EventClass,
    g: EventClass, /, *others: EventClass, into: str, many: bool = ..., takes_envelope: bool = ...,
) -> Callable[[Function], Function]: ...
# fmt: on
def projects(
    *events: type[Any], into: str, many: bool = False, takes_envelope: bool = False
) -> Any:
    """Mark a function that keeps a read model from the events of its context's stream.

    Several functions may go into one read model: they share a subscription, and are called in the
    order of the stream. A function marked for several events takes them all in one order.

    Arguments:
        events: classes whose events are in the stream of this context, one or several.
        into: the read model: the name of a model of the context's app, as in "country_board" for
            CountryBoard.
        many: it takes a list of events instead of one, all of one transaction.
        takes_envelope: it takes the `Envelope` as second argument (a list of them with many).

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    mark = ProjectsMark(
        require_events("projects", events),
        fit_name("into", into),
        boolean("many", many),
        boolean("takes_envelope", takes_envelope),
    )
    return marker(mark)


applied_by: ContextVar[str | None] = ContextVar("outbox_inbox_projection", default=None)
"""The name of the projection that is being called; None outside of one."""


@contextmanager
def applying(name: str) -> Iterator[None]:
    """Mark the block as part of a projection, so that `record()` refuses to run in it."""
    token = applied_by.set(name)
    try:
        yield
    finally:
        applied_by.reset(token)
