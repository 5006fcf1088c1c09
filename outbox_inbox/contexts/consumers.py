"""Consumers: what the messages of a context are delivered to, and how they are found.

A delivery is stored by the name of its consumer. Two consumers of one name, or a name that changes
by accident, would leave deliveries that no code handles.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, Literal
from zlib import crc32

from outbox_inbox.events import EventClass
from outbox_inbox.events.marks import (
    MAX_NAME,
    HandlesMark,
    InboundMark,
    Mark,
    OnDead,
    OutboundMark,
    Upcaster,
    UpcastsMark,
    mark_of,
)
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.processes import MAX_PROCESS_NAME, Process, TimedOut

from .declaring import stored_name

Upcasters = Mapping[int, Upcaster]
NO_UPCASTERS: Upcasters = MappingProxyType({})
ConsumerKind = Literal["handler", "outbound", "inbound", "process", "projection"]
_KINDS: Mapping[type[Mark], ConsumerKind] = MappingProxyType(
    {HandlesMark: "handler", OutboundMark: "outbound", InboundMark: "inbound"}
)


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
        upcasters: of all events of its context; class -> upcasters by the version they take.
        hash: crc32 of the name; with the key it makes the partition of a delivery.
    """

    name: str
    kind: ConsumerKind
    events: Mapping[str, EventClass]
    function: Callable[..., Any]
    mode: Literal["message", "batch", "list"]
    takes_envelope: bool = False
    on_dead: OnDead = "park"
    max_attempts: int | None = None
    upcasters: Mapping[EventClass, Upcasters]
    hash: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", crc32(self.name.encode()))

    def __repr__(self) -> str:
        return f"<Consumer {self.name}>"

    def upcasters_of(self, event: EventClass) -> Upcasters:
        """Return the upcasters of one of its events, by the version they take."""
        return self.upcasters.get(event, NO_UPCASTERS)


def by_type(consumers: Iterable[Consumer]) -> Mapping[str, tuple[Consumer, ...]]:
    """Return the consumers of each stored type name, in their order."""
    found: dict[str, tuple[Consumer, ...]] = {}
    for consumer in consumers:
        for name in consumer.events:
            found[name] = (*found.get(name, ()), consumer)
    return MappingProxyType(found)


def definitions(modules: Iterable[ModuleType], wanted: Callable[[Any], object]) -> list[Any]:
    """Return what is wanted of the functions and classes that the modules define, in their order.

    What is imported from elsewhere is left to the module that defines it. What a package imports
    from its own submodules counts as defined in the package.
    """
    found = {
        id(value): value
        for module in modules
        for value in list(vars(module).values())
        if wanted(value) and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }
    return list(found.values())


def is_process(value: object) -> bool:
    """Return whether a value is a process that takes events."""
    return isinstance(value, type) and issubclass(value, Process) and bool(value.routes)


def time_out_type(name: str) -> str:
    """Return the stored type name of the time-outs of a process."""
    return f"{name}.TimedOut"


def collect_upcasters(functions: Iterable[FunctionType]) -> Mapping[EventClass, Upcasters]:
    """Return event class -> version -> upcaster.

    Raises:
        SettingsError: two functions upcast one version of one event.
    """
    found: dict[EventClass, dict[int, FunctionType]] = {}
    for function in functions:
        mark = mark_of(function)
        for event, version in mark.events if isinstance(mark, UpcastsMark) else ():
            other = found.setdefault(event, {}).setdefault(version, function)
            if other is not function:
                raise SettingsError(
                    f"{path_of(function)} and {path_of(other)} both upcast "
                    f"{event.__qualname__} from version {version}; keep one"
                )
    return MappingProxyType({event: MappingProxyType(found[event]) for event in found})


@dataclass(frozen=True, slots=True)
class Collector:
    """Makes consumers of what a context's modules define, by the same rules for all kinds.

    Each method raises SettingsError for what could not be stored or read.

    Fields:
        package: of the context's app; a default name begins with the label instead.
        upcasters: of all events of the context.
    """

    label: str
    package: str
    upcasters: Mapping[EventClass, Upcasters]

    def marked(self, functions: Iterable[FunctionType]) -> Iterator[Consumer]:
        """Yield a consumer for each function that is marked as handler or translator."""
        for function in functions:
            mark = mark_of(function)
            if not isinstance(mark, HandlesMark | OutboundMark | InboundMark):
                continue
            # A translator has no effects of its own, so it always shares a transaction.
            options = mark if isinstance(mark, HandlesMark) else HandlesMark(mark.events, "batch")
            yield Consumer(
                name=self.name_of(function, options.name),
                kind=_KINDS[type(mark)],
                events=self.types_of(function, mark.events),
                function=function,
                mode="list" if options.many else options.transaction,
                takes_envelope=options.takes_envelope,
                on_dead=options.on_dead,
                max_attempts=options.max_attempts,
                upcasters=self.upcasters,
            )

    def processes(self, classes: Iterable[type[Process]]) -> Iterator[Consumer]:
        """Yield a consumer for each process; it takes its events and its own time-outs."""
        for cls in classes:
            name = self.name_of(cls, cls.process_name, MAX_PROCESS_NAME)
            events: dict[str, EventClass] = {**self.types_of(cls, cls.routes)}
            if cls.time_outs:
                events[time_out_type(name)] = TimedOut
            yield Consumer(
                name=name,
                kind="process",
                events=MappingProxyType(events),
                function=cls,
                mode=cls.transaction,
                upcasters=self.upcasters,
            )

    def name_of(
        self, defined: FunctionType | type, given: str | None, longest: int = MAX_NAME
    ) -> str:
        """Return the name under which a function or class is stored; the given one, if any.

        Raises:
            SettingsError: it is too long.
        """
        name = given or f"{self.label}.{path_of(defined).removeprefix(f'{self.package}.')}"
        if len(name) > longest:
            raise SettingsError(
                f"the consumer name {name!r} is longer than {longest} characters; rename the "
                "function or class, or give it a name= in @handles or in the class statement"
            )
        return name

    def types_of(
        self, defined: Callable[..., Any], events: Iterable[EventClass]
    ) -> Mapping[str, EventClass]:
        """Return stored type name -> class, of the events that a function or class takes.

        Raises:
            SettingsError: two classes have one name.
        """
        found: dict[str, EventClass] = {}
        for event in events:
            name = stored_name(event)
            if found.setdefault(name, event) is not event:
                raise SettingsError(
                    f"{path_of(defined)} takes two classes of {name}: "
                    f"{found[name].__module__} and {event.__module__}; keep one"
                )
        return MappingProxyType(found)


def path_of(defined: Callable[..., Any]) -> str:
    """Return the dotted path of a function or class."""
    return f"{defined.__module__}.{defined.__qualname__}"
