"""Decorators that mark a function as a consumer of events, and do nothing else.

They check their arguments, set one attribute and return the function itself, so that it can be
called and tested as before. `ContextConfig` collects what is marked in a context's modules.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from outbox_inbox.conf.section import did_you_mean

from . import DomainEvent, IntegrationEvent, has_version, meta

Function = TypeVar("Function", bound=Callable[..., Any])
EventClass = type[DomainEvent] | type[IntegrationEvent]
Transaction = Literal["message", "batch"]
OnDead = Literal["park", "skip"]

ATTRIBUTE = "__outbox_inbox__"
MAX_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


@dataclass(frozen=True, slots=True)
class HandlesMark:
    """A handler of one event; the arguments of `handles`."""

    event: EventClass
    transaction: Transaction = "message"
    batch: bool = False
    takes_envelope: bool = False
    on_dead: OnDead = "park"
    max_attempts: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class OutboundMark:
    """A translator from a domain event to contracts."""

    event: EventClass


@dataclass(frozen=True, slots=True)
class InboundMark:
    """A translator from a foreign contract to own domain events."""

    event: EventClass


@dataclass(frozen=True, slots=True)
class UpcastsMark:
    """An upcaster of an event's data (or a process's state) from one version to the next."""

    event: Any
    from_version: int


@dataclass(frozen=True, slots=True)
class ProjectsMark:
    """A function that keeps a read model; the arguments of ``projects``."""

    event: EventClass
    into: str
    batch: bool = False
    takes_envelope: bool = False

    @classmethod
    def marker(
        cls, event: EventClass, into: str, *, batch: bool, takes_envelope: bool
    ) -> Callable[[Function], Function]:
        """Return the decorator that sets such a mark; raises as ``projects``."""
        _require_event("projects", event)
        if not into or _name(into) is None:
            raise ValueError("into= is empty; expected the name of a model")
        return _marker(
            "projects",
            cls(event, into, _boolean("batch", batch), _boolean("takes_envelope", takes_envelope)),
        )


Mark = HandlesMark | OutboundMark | InboundMark | UpcastsMark | ProjectsMark


def marks_of(function: object) -> tuple[Mark, ...]:
    """Return the marks of a function, the one nearest to it first; none for anything else."""
    if not inspect.isfunction(function):
        return ()
    marks: tuple[Mark, ...] = getattr(function, ATTRIBUTE, ())
    return marks


def handles(
    event: EventClass,
    *,
    transaction: Transaction = "message",
    batch: bool = False,
    takes_envelope: bool = False,
    on_dead: OnDead = "park",
    max_attempts: int | None = None,
    name: str | None = None,
) -> Callable[[Function], Function]:
    """Mark a function as a handler of ``event``: a domain event of its context, or a contract.

    The handler runs inside a transaction of the context's database, together with the mark that
    its delivery is done; if it raises, both are rolled back and it is called again later. Effects
    outside that database can therefore happen more than once. A function marked for several
    events is one consumer of all of them, in one order for each key.

    Arguments:
        event: the class of the events it takes.
        transaction: "message" (default) commits each message on its own; "batch" commits many
            together, for a handler whose effects are all in the context's database.
        batch: the handler takes a list of events instead of one, all of one transaction.
        takes_envelope: it takes the `Envelope` as second argument (a list of them with batch).
        on_dead: "park" (default) holds the messages of the same key behind a dead one until a
            person decides; "skip" goes on with them.
        max_attempts: failed attempts until a message is dead; default MAX_ATTEMPTS.
        name: the stable name stored with its deliveries; default
            ``<label>.<module>.<function>``. Keep it when you rename or move the function.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    _require_event("handles", event)
    mark = HandlesMark(
        event,
        _one_of("transaction", transaction, get_args(Transaction)),
        _boolean("batch", batch),
        _boolean("takes_envelope", takes_envelope),
        _one_of("on_dead", on_dead, get_args(OnDead)),
        None if max_attempts is None else _positive("max_attempts", max_attempts),
        _name(name),
    )
    return _marker("handles", mark)


def outbound(event: type[DomainEvent]) -> Callable[[Function], Function]:
    """Mark a function as an outbound translator: own domain event -> contract.

    It is a pure function that takes the event and returns one contract, a list or tuple of them,
    or None; the result is recorded in the transaction of its delivery. It may be called again
    for the same event, whenever that transaction is rolled back.

    Raises:
        TypeError: ``event`` is no domain event.
    """
    _require_event("outbound", event, "domain")
    return _marker("outbound", OutboundMark(event))


def inbound(event: type[IntegrationEvent]) -> Callable[[Function], Function]:
    """Mark a function as an inbound translator: foreign contract -> own domain event.

    It is a pure function that takes the contract and returns one domain event, a list or tuple
    of them, or None; the result is put into the own inbox in the transaction of its delivery. It
    may be called again for the same contract, whenever that transaction is rolled back.

    Raises:
        TypeError: ``event`` is no contract.
    """
    _require_event("inbound", event, "integration")
    return _marker("inbound", InboundMark(event))


def upcasts(event: type[Any], *, from_version: int) -> Callable[[Function], Function]:
    """Mark a function ``dict -> dict`` that turns data of one version into the next version's.

    Upcasters are chained, so each one knows two neighbouring versions only.

    Arguments:
        event: the class whose old messages it reads; or a process, for the state it stored.
        from_version: the version it takes, from 1 up to the class's own version, exclusive.

    Raises:
        TypeError, ValueError: at once, for an argument that does not fit.
    """
    if not (inspect.isclass(event) and has_version(event)):
        _require_event("upcasts", event)
    current = meta(event).version
    if _positive("from_version", from_version) >= current:
        raise ValueError(
            f"from_version={from_version} of {event.__qualname__} has nothing to upcast to: "
            f"the class is version {current}"
        )
    return _marker("upcasts", UpcastsMark(event, from_version))


def _marker(decorator: str, mark: Mark) -> Callable[[Function], Function]:
    def set_mark(function: Function) -> Function:
        _require_function(decorator, function)
        earlier = marks_of(function)
        for other in earlier:
            _require_agreement(function, other, mark)
        setattr(function, ATTRIBUTE, (*earlier, mark))
        return function

    return set_mark


def _require_function(decorator: str, function: object) -> None:
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


def _require_agreement(function: Function, earlier: Mark, mark: Mark) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if type(earlier) is not type(mark):
        raise TypeError(
            f"{name} can be a handler, a translator, an upcaster or a projection, not two of them"
        )
    if earlier == mark:
        raise ValueError(f"{name} is marked twice for {mark.event.__qualname__}")
    decorator, shared = _SHARED.get(type(mark), ("", ()))
    for option in shared:
        if getattr(earlier, option) != getattr(mark, option):
            raise ValueError(
                f"{name} is one consumer of several events, so {option}= must be the same "
                f"in each @{decorator}: {getattr(mark, option)!r}, {getattr(earlier, option)!r}"
            )


_SHARED: dict[type[Mark], tuple[str, tuple[str, ...]]] = {
    HandlesMark: (
        "handles",
        ("transaction", "batch", "takes_envelope", "on_dead", "max_attempts", "name"),
    ),
    ProjectsMark: ("projects", ("into", "batch", "takes_envelope")),
}
"""Mark -> its decorator, and what all marks of one function have in common."""


def mark_projection(cls: type, name: object) -> str:
    """Return the name of a projection that is a class, checked."""
    checked = _name(name) if name else None
    if checked is None:
        raise ValueError(
            f'{cls.__name__} has no name; give it one: ({cls.__name__}(Projection, name="…")'
        )
    return checked


def _require_event(decorator: str, event: object, kind: str | None = None) -> None:
    known = inspect.isclass(event) and issubclass(event, DomainEvent | IntegrationEvent)
    if not known or event in (DomainEvent, IntegrationEvent):
        raise TypeError(
            f"@{decorator} takes the class of an event, as in @{decorator}(OrderPlaced), "
            f"not {event!r}"
        )
    if kind is not None and meta(event).kind != kind:
        found = {"domain": "a domain event", "integration": "a contract"}
        raise TypeError(f"@{decorator} translates {found[kind]}; {event!r} is none")


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value in choices:
        return value
    expected = " or ".join(repr(choice) for choice in choices)
    raise ValueError(f"{name}={value!r}; expected {expected}{did_you_mean(value, choices)}")


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError(f"{name}={value!r}; expected True or False")


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}={value!r}; expected a whole number")
    if value < 1:
        raise ValueError(f"{name}={value!r}; expected at least 1")
    return value


def _name(name: object) -> str | None:
    if name is None or (isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= MAX_NAME):
        return name
    raise ValueError(
        f"name={name!r}; expected 1 to {MAX_NAME} letters, digits or _ . : - characters"
    )
