"""The contexts of the project: what each one declares, consumes, and where it is deployed.

Nothing is registered by importing this module. The contexts are read from the app registry and
OUTBOX_INBOX when they are first asked for, and again after either has changed; in between, every
question is a dictionary look-up.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from django.apps import AppConfig, apps
from django.core.signals import setting_changed

from outbox_inbox.conf import ContextSettings, Source, settings
from outbox_inbox.conf.keys import Signing, Verifying
from outbox_inbox.conf.section import suggestion
from outbox_inbox.events import DomainEvent, IntegrationEvent, meta
from outbox_inbox.events.marking import Event, marks_of
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.processes import Process

from .consumers import (
    NO_UPCASTERS,
    Consumer,
    Upcasters,
    collect_consumers,
    collect_upcasters,
    import_modules,
    marked_functions,
)
from .declaring import (
    ContextConfig,
    context_configs,
    declaration_problems,
    deployment_of,
    deployment_problems,
    owner_of,
    refuse,
)
from .processes import collect_processes, process_classes
from .read_models import ReadModel, collect_read_models

__all__ = ["Consumer", "Context", "ContextConfig", "ReadModel", "context", "context_of", "contexts"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Context:
    """A bounded context as it is deployed: its ContextConfig with the overrides of the settings.

    Fields:
        label: the app's label; the source of its messages.
        app: the app's name, which is its package.
        database: alias of the database of its queues.
        transport: alias in OUTBOX_INBOX["TRANSPORTS"].
        source: "outbox" or "stream".
        publishes: contracts, as declared.
        subscribes: contracts, as declared.
        consumers: by name, in the order of ``modules`` and of definition.
        all_consumers: the same, with those that have the name of another (check E011).
        read_models: by name, what projections keep.
        all_read_models: the same, with those that have the name of another (check E011).
        events: stored type name -> class, of its own events and of what it declares or consumes.
        subscribed: stored type names of ``subscribes``.
        sources: labels of the contexts that these are from: the first part of their names.
        signing: the key that its messages are signed with; None: they are not.
        verifying: by the label of a source, how its messages are verified.
    """

    label: str
    app: str
    database: str
    transport: str
    source: Source
    publishes: tuple[type[IntegrationEvent], ...]
    subscribes: tuple[type[IntegrationEvent], ...]
    consumers: Mapping[str, Consumer]
    all_consumers: tuple[Consumer, ...]
    read_models: Mapping[str, ReadModel]
    all_read_models: tuple[ReadModel, ...]
    events: Mapping[str, Event]
    subscribed: frozenset[str]
    sources: frozenset[str]
    signing: Signing | None
    verifying: Mapping[str, Verifying]
    _published: frozenset[Event]
    _by_type: Mapping[str, tuple[Consumer, ...]]
    _upcasters: Mapping[Event, Upcasters]

    def __repr__(self) -> str:
        return f"<Context {self.label}>"

    @property
    def outbox_partitions(self) -> int:
        """Over how many partitions its outbox is spread: one, where the stream is the source.

        There one cursor reads for all keys, and the outbox only has what it could not send.
        """
        return 1 if self.source == "stream" else settings().partitions.outbox

    def consumers_of(self, type_name: str) -> tuple[Consumer, ...]:
        """Return the consumers of messages with this stored type name."""
        return self._by_type.get(type_name, ())

    def type_name(self, event: Event) -> str:
        """Return the name under which messages of this class are stored: ``<label>.<ClassName>``.

        An event declared with ``name=``, as every contract is, has that name instead.
        """
        return meta(event).name or f"{self.label}.{event.__name__}"

    def publishes_class(self, event: Event) -> bool:
        """Tell whether ``publishes`` holds this very class."""
        return event in self._published

    def upcasters_of(self, event: Event) -> Upcasters:
        """Return the upcasters of a class, by the version they take."""
        return self._upcasters.get(event, NO_UPCASTERS)

    def own_events(self) -> list[type[DomainEvent]]:
        """Return the domain events of this context that have been imported so far."""
        return _own_events(self.label)

    def event_class(self, type_name: str) -> Event | None:
        """Return the class of a stored type name, also of one imported since, or None."""
        return self.events.get(type_name) or _by_stored_name(_own_events(self.label)).get(type_name)


def contexts() -> tuple[Context, ...]:
    """Return all contexts of the project, by label.

    Raises:
        SettingsError: a ContextConfig or OUTBOX_INBOX is wrong.
        AppRegistryNotReady: it is called while apps are still being loaded.
    """
    return _state().contexts


def context(label: str) -> Context:
    """Return the context with this label.

    Raises:
        NotAContext: there is none.
    """
    found = _state().by_label.get(label)
    if found is not None:
        return found
    if label in apps.app_configs:
        raise NotAContext(
            f"The app {label!r} is no context: its AppConfig, "
            f"{type(apps.app_configs[label]).__name__}, is no subclass of ContextConfig"
        )
    raise NotAContext(f"There is no context {label!r}{suggestion(label, _state().by_label)}")


def context_of(event: Event | DomainEvent | IntegrationEvent) -> Context:
    """Return the context that an event or its class belongs to.

    It is the one whose app contains the module of the class; of nested ones, the innermost.

    Raises:
        NotAContext: no context's app contains it.
    """
    cls = event if isinstance(event, type) else type(event)
    state = _state()
    found = state.owners.get(cls)
    if found is None:
        found = state.owners[cls] = _look_up(cls, state)
    return found


@dataclass
class _State:
    """What was read, and from which app registry."""

    configs: Mapping[str, AppConfig]
    contexts: tuple[Context, ...]
    by_label: Mapping[str, Context]
    owners: dict[Event, Context] = field(default_factory=dict)
    last: ClassVar["_State | None"] = None


def _state() -> _State:
    last = _State.last
    # The registry makes a new dict whenever INSTALLED_APPS changes, before any signal of it.
    if last is None or last.configs is not apps.app_configs:
        apps.check_models_ready()
        last = _State.last = _read()
    return last


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "INSTALLED_APPS", "DATABASES"):
        _State.last = None


setting_changed.connect(_forget, dispatch_uid="outbox_inbox.contexts")


def _read() -> _State:
    configs = context_configs()
    refuse(problem for config in configs for problem in declaration_problems(config))
    refuse(problem for config in configs for problem in deployment_problems(config))
    found = tuple(_context(config) for config in configs)
    return _State(apps.app_configs, found, {each.label: each for each in found})


def _context(config: ContextConfig) -> Context:
    modules = import_modules(config.name, config.modules)
    functions = marked_functions(modules)
    consumed = [mark.event for function in functions for mark in marks_of(function)]
    processes = process_classes(modules)
    consumed = [each for each in consumed if not issubclass(each, Process)]
    consumed += [event for process in processes for event in process.routes]
    known = [*_own_events(config.label), *config.publishes, *config.subscribes, *consumed]
    # An upcaster may also stand beside its contract.
    beside = marked_functions(sys.modules[name] for name in {each.__module__ for each in known})
    upcasters = collect_upcasters(dict.fromkeys([*functions, *beside]))
    consumers = collect_consumers(functions, config.label, config.name, _stored_name, upcasters)
    consumers += collect_processes(modules, config.label, config.name, _stored_name, upcasters)
    read_models = collect_read_models(functions, modules, config.label, _stored_name, upcasters)
    deployment = deployment_of(config)
    own = settings().contexts.get(config.label, ContextSettings())
    return Context(
        label=config.label,
        app=config.name,
        database=deployment.database,
        transport=deployment.transport,
        source=deployment.source,
        publishes=tuple(config.publishes),
        subscribes=tuple(config.subscribes),
        consumers=MappingProxyType({each.name: each for each in consumers}),
        all_consumers=tuple(consumers),
        read_models=MappingProxyType({each.name: each for each in read_models}),
        all_read_models=tuple(read_models),
        events=MappingProxyType(_by_stored_name(known)),
        subscribed=frozenset(_stored_name(each) for each in config.subscribes),
        sources=frozenset(_stored_name(each).partition(".")[0] for each in config.subscribes),
        signing=own.signing,
        verifying=own.verifying,
        _published=frozenset(config.publishes),
        _by_type=_by_type(consumers),
        _upcasters=upcasters,
    )


def _by_type(consumers: Iterable[Consumer]) -> Mapping[str, tuple[Consumer, ...]]:
    found: dict[str, tuple[Consumer, ...]] = {}
    for consumer in consumers:
        for name in consumer.events:
            found[name] = (*found.get(name, ()), consumer)
    return MappingProxyType(found)


def _stored_name(event: Event) -> str:
    owner = owner_of(event.__module__)
    return meta(event).name or (f"{owner.label}." if owner else "") + event.__name__


def _by_stored_name(events: Iterable[Event]) -> dict[str, Event]:
    found: dict[str, Event] = {}
    for event in events:
        name = _stored_name(event)
        # Two versions of a contract may be declared side by side: the newer one reads both.
        if name not in found or meta(found[name]).version < meta(event).version:
            found[name] = event
    return found


def _own_events(label: str) -> list[type[DomainEvent]]:
    owners = {each: owner_of(each.__module__) for each in _subclasses(DomainEvent)}
    return [each for each, owner in owners.items() if owner is not None and owner.label == label]


def _subclasses(cls: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


def _look_up(cls: Event, state: _State) -> Context:
    owner = owner_of(cls.__module__)
    if owner is not None:
        return state.by_label[owner.label]
    config = apps.get_containing_app_config(cls.__module__)
    where = f"{cls.__module__}.{cls.__qualname__}"
    if config is None:
        raise NotAContext(f"{where} is in no app of INSTALLED_APPS, so it belongs to no context")
    raise NotAContext(
        f"{where} is in the app {config.label!r}, which is no context: its AppConfig, "
        f"{type(config).__name__}, is no subclass of ContextConfig"
    )
