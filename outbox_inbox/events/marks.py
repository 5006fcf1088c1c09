"""What the decorators say about a function, kept on the function until a context collects it.

A mark is one attribute. Setting it runs no other code, so the marked function can be called and
tested as before, and importing a module of handlers needs neither settings nor models.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from outbox_inbox.conf.section import did_you_mean

from . import DomainEvent, EventKind, IntegrationEvent, meta

Function = TypeVar("Function", bound=Callable[..., Any])
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
Transaction = Literal["message", "batch"]
OnDead = Literal["park", "skip"]

ATTRIBUTE = "__outbox_inbox__"
MAX_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_KINDS: dict[EventKind, str] = {"domain": "a domain event", "integration": "a contract"}


@dataclass(frozen=True, slots=True)
class Mark:
    """What a function is marked as. Decorators that are stacked on a function make one mark.

    Fields:
        events: what it is marked for, that of the decorator nearest to the function first.
    """

    decorator: ClassVar[str]

    events: tuple[Any, ...]

    @property
    def classes(self) -> tuple[Any, ...]:
        """The class of each of its events."""
        return self.events


@dataclass(frozen=True, slots=True)
class HandlesMark(Mark):
    """A handler; the arguments of `handles`."""

    decorator = "handles"

    transaction: Transaction = "message"
    many: bool = False
    takes_envelope: bool = False
    on_dead: OnDead = "park"
    max_attempts: int | None = None
    name: str | None = None
    consumer: str | None = None


@dataclass(frozen=True, slots=True)
class OutboundMark(Mark):
    """A translator from domain events to contracts."""

    decorator = "outbound"

    consumer: str | None = None


@dataclass(frozen=True, slots=True)
class InboundMark(Mark):
    """A translator from foreign contracts to own domain events."""

    decorator = "inbound"

    consumer: str | None = None


class OldVersion(NamedTuple):
    """A version of an event's data, or of a process's state, that is read no more as it is."""

    event: Any
    version: int


@dataclass(frozen=True, slots=True)
class UpcastsMark(Mark):
    """An upcaster: for each of its versions it makes the data of the next one."""

    decorator = "upcasts"

    events: tuple[OldVersion, ...]

    @property
    def classes(self) -> tuple[Any, ...]:
        """The class of each old version."""
        return tuple(each.event for each in self.events)


@dataclass(frozen=True, slots=True)
class ProjectsMark(Mark):
    """A function that keeps a read model; the arguments of `projects`."""

    decorator = "projects"

    into: str
    many: bool = False
    takes_envelope: bool = False


def mark_of(function: object) -> Mark | None:
    """Return the mark of a function; None for anything that has none."""
    mark: Mark | None = getattr(function, ATTRIBUTE, None) if inspect.isfunction(function) else None
    return mark


def marker(mark: Mark) -> Callable[[Function], Function]:
    """Return the decorator that sets a mark, or adds it to that of a decorator further in."""

    def set_mark(function: Function) -> Function:
        require_function(mark.decorator, function)
        earlier = mark_of(function)
        joined = mark if earlier is None else _joined(function, earlier, mark)
        for number, cls in enumerate(joined.classes):
            if joined.events[number] in joined.events[:number]:
                raise ValueError(f"{function.__qualname__} is marked twice for {cls.__qualname__}")
        setattr(function, ATTRIBUTE, joined)
        return function

    return set_mark


def _joined(function: Callable[..., Any], earlier: Mark, mark: Mark) -> Mark:
    if type(earlier) is not type(mark):
        raise TypeError(
            f"{function.__qualname__} can be a handler, a translator, an upcaster or a "
            "projection, not two of them"
        )
    for option in fields(mark)[1:]:
        ours, theirs = getattr(mark, option.name), getattr(earlier, option.name)
        if ours != theirs:
            raise ValueError(
                f"{function.__qualname__} is one consumer of several events, so {option.name}= "
                f"must be the same in each @{mark.decorator}: {ours!r}, {theirs!r}"
            )
    return replace(mark, events=(*earlier.events, *mark.events))


def require_function(decorator: str, function: object) -> None:
    """Raise TypeError unless the decorator can mark this function, or method."""
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise TypeError(f"@{decorator} marks a function with a name, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__} is async, and @{decorator} marks plain functions: "
            "a database transaction does not span an await"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{function.__qualname__} is a generator, which would not run when it is called: "
            "return a list instead of using yield"
        )


def require_events(
    decorator: str, events: tuple[object, ...], kind: EventKind | None = None
) -> Any:
    """Return the events of a decorator.

    Raises:
        TypeError: one of them is not the class of an event, or not of this kind; or there is none.
    """
    for event in events or (None,):
        known = inspect.isclass(event) and issubclass(event, DomainEvent | IntegrationEvent)
        if not known or event in (DomainEvent, IntegrationEvent):
            raise TypeError(
                f"@{decorator} takes the class of an event, as in @{decorator}(OrderPlaced), "
                f"not {event!r}"
            )
        if kind is not None and (found := meta(event).kind) != kind:
            raise TypeError(f"@{decorator} translates {_KINDS[kind]}; {event!r} is {_KINDS[found]}")
    return events


def one_of(option: str, value: Any, choices: tuple[str, ...]) -> Any:
    """Return the value of an option; raises ValueError unless it is one of the choices."""
    if value in choices:
        return value
    expected = " or ".join(repr(choice) for choice in choices)
    raise ValueError(f"{option}={value!r}; expected {expected}{did_you_mean(value, choices)}")


def boolean(option: str, value: object) -> bool:
    """Return the value of an option; raises TypeError unless it is True or False."""
    if isinstance(value, bool):
        return value
    raise TypeError(f"{option}={value!r}; expected True or False")


def positive(option: str, value: object) -> int:
    """Return the value of an option; raises TypeError or ValueError unless it is 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option}={value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"{option}={value!r}; expected at least 1")
    return value


def fit_name(option: str, name: object) -> str:
    """Return the value of an option; raises ValueError unless it can be stored as a name."""
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= MAX_NAME:
        return name
    raise ValueError(
        f"{option}={name!r}; expected 1 to {MAX_NAME} letters, digits or _ . : - characters"
    )
