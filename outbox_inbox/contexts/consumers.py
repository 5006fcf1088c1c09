"""Finds the marked functions of a context's modules and makes consumers and upcasters of them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, Literal
from zlib import crc32

from django.utils.module_loading import module_has_submodule

from outbox_inbox.events.marking import (
    MAX_NAME,
    EventClass,
    HandlesMark,
    InboundMark,
    OnDead,
    OutboundMark,
    ProjectsMark,
    UpcastsMark,
    marks_of,
)
from outbox_inbox.exceptions import SettingsError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
Upcasters = Mapping[int, Upcaster]
ConsumerMark = HandlesMark | OutboundMark | InboundMark
NO_UPCASTERS: Upcasters = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Consumer:
    """A function of a context that messages are delivered to; each delivery is stored by its name.

    Fields:
        name: stable and unique in its context, such as ``shipping.handlers.book_shipment``.
        kind: "handler", translator "outbound" or "inbound", "process", or "projection": not
            delivered to.
        events: stored type name -> class the payload is read as; usually one, several when
            the function is marked for several events.
        function: what is called.
        mode: "message" (a transaction for each message), "batch" (many in one transaction),
            "list" (called once with all events of the transaction).
        takes_envelope: the envelope is the second argument.
        on_dead: "park" or "skip" the key's messages behind a dead one.
        max_attempts: None means MAX_ATTEMPTS.
        upcasters_by_event: class -> upcasters by the version they take.
        hash: crc32 of the name; with the key it makes the partition of a delivery.
    """

    name: str
    kind: Literal["handler", "outbound", "inbound", "process", "projection"]
    events: Mapping[str, EventClass]
    function: Callable[..., Any]
    mode: Literal["message", "batch", "list"]
    takes_envelope: bool = False
    on_dead: OnDead = "park"
    max_attempts: int | None = None
    upcasters_by_event: Mapping[EventClass, Upcasters] = field(
        default_factory=lambda: MappingProxyType({})
    )
    hash: int

    def __repr__(self) -> str:
        return f"<Consumer {self.name}>"

    @property
    def event(self) -> EventClass:
        """The class of the first event that it consumes."""
        return next(iter(self.events.values()))

    @property
    def type(self) -> str:
        """The stored type name of the first event that it consumes."""
        return next(iter(self.events))

    @property
    def upcasters(self) -> Upcasters:
        """The upcasters of the first event that it consumes."""
        return self.upcasters_of(self.event)

    def upcasters_of(self, event: EventClass) -> Upcasters:
        """Return the upcasters of one of its events, by the version they take."""
        return self.upcasters_by_event.get(event, NO_UPCASTERS)


def import_modules(package: str, names: Iterable[str]) -> list[ModuleType]:
    """Import those of the modules that exist below ``package``, in the order given.

    Raises:
        Exception: whatever a module that exists raises while it is imported.
    """
    found = (_import_below(package, name) for name in names)
    return [module for module in found if module is not None]


def has_module(package: str, name: str) -> bool:
    """Tell whether there is a module of this (dotted) name below ``package``."""
    return _import_below(package, name) is not None


def _import_below(package: str, name: str) -> ModuleType | None:
    module = import_module(package)
    for part in name.split("."):
        # Looked for before it is imported: an ImportError from within is not "missing".
        if not module_has_submodule(module, part):
            return None
        module = import_module(f"{module.__name__}.{part}")
    return module


def marked_functions(modules: Iterable[ModuleType]) -> list[FunctionType]:
    """Return the marked functions that are defined in the modules, in order of definition.

    A function imported from elsewhere is left to the module that defines it. What a package
    imports from its own submodules counts as defined in the package.
    """
    found: dict[int, FunctionType] = {}
    for module in modules:
        for value in list(vars(module).values()):
            if isinstance(value, FunctionType) and marks_of(value) and _within(value, module):
                found.setdefault(id(value), value)
    return list(found.values())


def _within(function: FunctionType, module: ModuleType) -> bool:
    return f"{function.__module__}.".startswith(f"{module.__name__}.")


def collect_upcasters(functions: Iterable[FunctionType]) -> Mapping[EventClass, Upcasters]:
    """Return event class -> version -> upcaster.

    Raises:
        SettingsError: two functions upcast one version of one event.
    """
    found: dict[EventClass, dict[int, FunctionType]] = {}
    for function in functions:
        for mark in marks_of(function):
            if not isinstance(mark, UpcastsMark):
                continue
            other = found.setdefault(mark.event, {}).setdefault(mark.from_version, function)
            if other is not function:
                raise SettingsError(
                    f"{_path(function)} and {_path(other)} both upcast "
                    f"{mark.event.__qualname__} from version {mark.from_version}; keep one"
                )
    return MappingProxyType({event: MappingProxyType(found[event]) for event in found})


def collect_consumers(
    functions: Iterable[FunctionType],
    label: str,
    package: str,
    type_name: Callable[[EventClass], str],
    upcasters: Mapping[EventClass, Upcasters],
) -> list[Consumer]:
    """Return a consumer for each function marked as handler or translator.

    Raises:
        SettingsError: a name is too long to be stored, or a function reads one type twice.
    """
    consumers = []
    for function in functions:
        marks = [mark for mark in marks_of(function) if isinstance(mark, ConsumerMark)]
        if marks:
            events = events_of(function, marks, type_name)
            mine = {event: upcasters[event] for event in events.values() if event in upcasters}
            name = f"{label}.{_path(function).removeprefix(package + '.')}"
            consumers.append(_consumer(function, marks[0], name, events, MappingProxyType(mine)))
    return consumers


def events_of(
    function: FunctionType,
    marks: Iterable[ConsumerMark | ProjectsMark],
    type_name: Callable[[EventClass], str],
) -> Mapping[str, EventClass]:
    """Return stored type name -> class, of the events that a function is marked for.

    Raises:
        SettingsError: two classes have one name.
    """
    events: dict[str, EventClass] = {}
    for mark in marks:
        name = type_name(mark.event)
        if name in events:
            raise SettingsError(
                f"{_path(function)} is marked for two classes of {name}: "
                f"{events[name].__module__} and {mark.event.__module__}; keep one"
            )
        events[name] = mark.event
    return MappingProxyType(events)


def _consumer(
    function: FunctionType,
    mark: ConsumerMark,
    default_name: str,
    events: Mapping[str, EventClass],
    upcasters: Mapping[EventClass, Upcasters],
) -> Consumer:
    handler = mark if isinstance(mark, HandlesMark) else HandlesMark(mark.event, "batch")
    name = handler.name or default_name
    if len(name) > MAX_NAME:
        raise SettingsError(
            f"the consumer name {name!r} is longer than {MAX_NAME} characters; "
            "give the function a shorter one, or name= in @handles"
        )
    return Consumer(
        name=name,
        kind=_KINDS[type(mark)],
        events=events,
        function=function,
        mode="list" if handler.batch else handler.transaction,
        takes_envelope=handler.takes_envelope,
        on_dead=handler.on_dead,
        max_attempts=handler.max_attempts,
        upcasters_by_event=upcasters,
        hash=crc32(name.encode()),
    )


_KINDS: Mapping[type[ConsumerMark], Literal["handler", "outbound", "inbound"]] = MappingProxyType(
    {HandlesMark: "handler", OutboundMark: "outbound", InboundMark: "inbound"}
)


def _path(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"
