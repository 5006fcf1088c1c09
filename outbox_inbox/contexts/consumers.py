"""Consumers: what the messages of a context are delivered to, and how they are found.

A delivery is stored by the name of its consumer. Two consumers of one name, or a name that changes
by accident, would leave deliveries that no code handles.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, Literal
from zlib import crc32

from outbox_inbox.events import EventClass, meta
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
ConsumerMode = Literal["message", "batch", "list"]
_KINDS: Mapping[type[Mark], ConsumerKind] = MappingProxyType(
    {HandlesMark: "handler", OutboundMark: "outbound", InboundMark: "inbound"}
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConsumerFunction:
    """A function of a consumer, with what its decorator says.

    Fields:
        name: the label and its path within the context's app, unless it was given one.
        call: the function, or the class of a process.
        events: stored type name -> class the payload is read as; several when the function is
            marked for several events.
        mode, on_dead, max_attempts: as in `Consumer`; the functions of one must agree (check E019).
        takes_envelope: the envelope is the second argument.
    """

    name: str
    call: Callable[..., Any]
    events: Mapping[str, EventClass]
    mode: ConsumerMode
    takes_envelope: bool = False
    on_dead: OnDead = "park"
    max_attempts: int | None = None

    @property
    def path(self) -> str:
        """Its dotted path."""
        return path_of(self.call)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Consumer:
    """What has one delivery a message, stored by its name, and one place in the order of each key.

    Fields:
        name: stable and unique in its context, such as ``shipping.handlers.book_shipment``.
        kind: "handler", translators "outbound" or "inbound", "process", or "projection": not
            delivered to.
        functions: what is called, in the order of definition, all in one transaction.
        upcasters: of all events of its context; class -> upcasters by the version they take.
        events: stored type name -> class, of all its functions.
        versions: stored type name -> the newest version that all its functions can read.
        mode: "message" (a transaction for each message), "batch" (many in one transaction),
            "list" (called once with all events of the transaction).
        on_dead: "park" or "skip" the key's messages behind a dead one.
        max_attempts: None means MAX_ATTEMPTS.
        hash: crc32 of the name; with the key it makes the partition of a delivery.
    """

    name: str
    kind: ConsumerKind
    functions: tuple[ConsumerFunction, ...]
    upcasters: Mapping[EventClass, Upcasters]
    events: Mapping[str, EventClass] = field(init=False)
    versions: Mapping[str, int] = field(init=False)
    mode: ConsumerMode = field(init=False)
    on_dead: OnDead = field(init=False)
    max_attempts: int | None = field(init=False)
    hash: int = field(init=False)

    def __post_init__(self) -> None:
        first, events = self.functions[0], dict[str, EventClass]()
        for each in self.functions:
            events.update((name, cls) for name, cls in each.events.items() if name not in events)
        made = (
            ("events", MappingProxyType(events)),
            ("versions", readable_versions(self.functions)),
            ("mode", first.mode),
            ("on_dead", first.on_dead),
            ("max_attempts", first.max_attempts),
            ("hash", hash_of(self.name)),
        )
        for name, value in made:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<Consumer {self.name}>"

    @property
    def takes_envelope(self) -> bool:
        """Whether one of its functions takes the envelope beside the event."""
        return any(each.takes_envelope for each in self.functions)

    def knows(self, type_name: str, version: int) -> bool:
        """Return whether it takes messages of this type, and can read this version."""
        return version <= self.versions.get(type_name, 0)

    def functions_of(self, type_name: str) -> tuple[ConsumerFunction, ...]:
        """Return the functions that take messages with this stored type name, in their order."""
        return tuple(each for each in self.functions if type_name in each.events)

    def upcasters_of(self, event: EventClass) -> Upcasters:
        """Return the upcasters of one of its events, by the version they take."""
        return self.upcasters.get(event, NO_UPCASTERS)


def readable_versions(functions: Iterable[ConsumerFunction]) -> Mapping[str, int]:
    """Return stored type name -> the newest version that all of the functions can read."""
    found: dict[str, int] = {}
    for each in functions:
        for name, cls in each.events.items():
            found[name] = min(meta(cls).version, found.get(name, meta(cls).version))
    return MappingProxyType(found)


def hash_of(consumer: str) -> int:
    """Return the hash of a consumer's name: with that of a key it makes the partition."""
    return crc32(consumer.encode())


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
        """Yield the consumers of the functions that are marked as handlers or translators.

        The translators of one direction are one consumer, and so are the functions with one
        ``consumer=``: with a place of its own in the order of a key for each of them, what the
        later one makes would leave before what the earlier one makes, once the earlier one fails.
        """
        groups: dict[object, list[ConsumerFunction]] = {}
        names: dict[object, tuple[str, ConsumerKind]] = {}
        for function in functions:
            mark = mark_of(function)
            if not isinstance(mark, HandlesMark | OutboundMark | InboundMark):
                continue
            kind = _KINDS[type(mark)]
            group = mark.consumer or ("" if isinstance(mark, HandlesMark) else kind)
            name = (mark.name if isinstance(mark, HandlesMark) else None) or self.path_of(function)
            # Two functions of one name= are a mistake (check E011), not a group.
            id_: object = (kind, group) if group else function
            names[id_] = (self.fitting(f"{self.label}.{group}" if group else name), kind)
            groups.setdefault(id_, []).append(self.function_of(function, name, mark))
        for id_, found in groups.items():
            name, kind = names[id_]
            yield Consumer(name=name, kind=kind, functions=tuple(found), upcasters=self.upcasters)

    def function_of(self, function: FunctionType, name: str, mark: Mark) -> ConsumerFunction:
        """Return a marked function as one of a consumer."""
        # A translator has no effects of its own, so it always shares a transaction.
        options = mark if isinstance(mark, HandlesMark) else HandlesMark(mark.events, "batch")
        return ConsumerFunction(
            name=name,
            call=function,
            events=self.types_of(function, mark.events),
            mode="list" if options.many else options.transaction,
            takes_envelope=options.takes_envelope,
            on_dead=options.on_dead,
            max_attempts=options.max_attempts,
        )

    def processes(self, classes: Iterable[type[Process]]) -> Iterator[Consumer]:
        """Yield a consumer for each process; it takes its events and its own time-outs."""
        for cls in classes:
            name = self.name_of(cls, cls.process_name, MAX_PROCESS_NAME)
            events: dict[str, EventClass] = {**self.types_of(cls, cls.routes)}
            if cls.time_outs:
                events[time_out_type(name)] = TimedOut
            function = ConsumerFunction(
                name=name, call=cls, events=MappingProxyType(events), mode=cls.transaction
            )
            yield Consumer(
                name=name, kind="process", functions=(function,), upcasters=self.upcasters
            )

    def name_of(
        self, defined: FunctionType | type, given: str | None, longest: int = MAX_NAME
    ) -> str:
        """Return the name under which a function or class is stored; the given one, if any.

        Raises:
            SettingsError: it is too long.
        """
        return self.fitting(given or self.path_of(defined), longest)

    def path_of(self, defined: FunctionType | type) -> str:
        """Return the path of a function or class, with the label in place of the app's package."""
        return f"{self.label}.{path_of(defined).removeprefix(f'{self.package}.')}"

    def fitting(self, name: str, longest: int = MAX_NAME) -> str:
        """Return the name of a consumer; raise SettingsError if it is too long."""
        if len(name) > longest:
            raise SettingsError(
                f"the consumer name {name!r} is longer than {longest} characters; rename the "
                "function or class, give it a name= in @handles or in the class statement, or "
                "shorten its consumer="
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
