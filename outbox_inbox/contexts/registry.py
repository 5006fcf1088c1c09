"""The contexts of the project, read once and again after apps or settings have changed.

Everything that records or delivers asks here first, so an answer must cost a dictionary look-up,
and must never be that of settings which a test has replaced.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, cast

from django.apps import AppConfig, apps
from django.core.signals import setting_changed

from outbox_inbox.conf import ContextSettings, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent
from outbox_inbox.events.marks import Mark, mark_of
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.processes import Process

from .consumers import (
    Collector,
    Consumer,
    Upcasters,
    by_type,
    collect_upcasters,
    definitions,
    is_marked,
)
from .context import Context
from .declaring import (
    ContextConfig,
    context_configs,
    declaration_problems,
    deployment_of,
    deployment_problems,
    import_modules,
    owner_of,
    raise_problems,
)
from .names import by_stored_name, own_events, stored_name
from .processes import collect_processes, is_process
from .read_models import ReadModel, collect_read_models, is_projection


def contexts() -> tuple[Context, ...]:
    """Return all contexts of the project, by label.

    Raises:
        SettingsError: a ContextConfig or OUTBOX_INBOX is wrong.
        AppRegistryNotReady: it is called while apps are still being loaded.
    """
    return _state().contexts


def get_context(label: str) -> Context:
    """Return the context with this label.

    Raises:
        NotAContext: no context has this label.
    """
    found = _state().by_label.get(label)
    if found is not None:
        return found
    if label in apps.app_configs:
        raise NotAContext(
            f"The app {label!r} is not a context: its AppConfig, "
            f"{type(apps.app_configs[label]).__name__}, is not a subclass of ContextConfig"
        )
    raise NotAContext(f"There is no context {label!r}{suggestion(label, _state().by_label)}")


def context_of(event: EventClass | DomainEvent | IntegrationEvent) -> Context:
    """Return the context that an event or its class belongs to.

    It is the one whose app contains the module of the class; of nested apps, the innermost.

    Raises:
        NotAContext: the module is not in the app of a context.
    """
    cls = event if isinstance(event, type) else type(event)
    state = _state()
    found = state.owners.get(cls)
    if found is None:
        found = state.owners[cls] = _owner_context(cls, state)
    return found


@dataclass
class _State:
    """The contexts as they were read, and the app registry they were read from."""

    configs: Mapping[str, AppConfig]
    contexts: tuple[Context, ...]
    by_label: Mapping[str, Context]
    owners: dict[EventClass, Context] = field(default_factory=dict)
    last: ClassVar["_State | None"] = None


def _state() -> _State:
    last = _State.last
    # The registry makes a new dict whenever INSTALLED_APPS changes, before any signal of it.
    if last is None or last.configs is not apps.app_configs:
        apps.check_models_ready()
        last = _State.last = _read_state()
    return last


def _forget_state(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "INSTALLED_APPS", "DATABASES"):
        _State.last = None


setting_changed.connect(_forget_state, dispatch_uid="outbox_inbox.contexts")


def _read_state() -> _State:
    configs = context_configs()
    raise_problems(problem for config in configs for problem in declaration_problems(config))
    raise_problems(problem for config in configs for problem in deployment_problems(config))
    found = tuple(_context(config) for config in configs)
    return _State(apps.app_configs, found, {each.label: each for each in found})


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the modules of a context define.

    Fields:
        consumers, read_models: in the order of modules and of definition.
        events: all classes that the context declares, consumes or has itself.
        upcasters: of these.
    """

    consumers: tuple[Consumer, ...]
    read_models: tuple[ReadModel, ...]
    events: tuple[EventClass, ...]
    upcasters: Mapping[EventClass, Upcasters]


def _declared(config: ContextConfig) -> _Declared:
    modules = import_modules(config.name, config.modules)
    functions = definitions(modules, is_marked)
    processes = definitions(modules, is_process)
    marks = [cast(Mark, mark_of(function)) for function in functions]
    consumed = [cls for mark in marks for cls in mark.classes if not issubclass(cls, Process)]
    consumed += [event for process in processes for event in process.routes]
    known = (*own_events(config.label), *config.publishes, *config.subscribes, *consumed)
    # An upcaster may also be defined beside its contract.
    homes = (sys.modules[name] for name in {each.__module__ for each in known})
    upcasters = collect_upcasters(dict.fromkeys([*functions, *definitions(homes, is_marked)]))
    collector = Collector(config.label, config.name, upcasters)
    return _Declared(
        (*collector.marked(functions), *collect_processes(collector, processes)),
        tuple(collect_read_models(collector, functions, definitions(modules, is_projection))),
        known,
        upcasters,
    )


def _context(config: ContextConfig) -> Context:
    declared, deployment = _declared(config), deployment_of(config)
    own = settings().contexts.get(config.label, ContextSettings())
    return Context(
        label=config.label,
        app=config.name,
        database=deployment.database,
        transport=deployment.transport,
        source=deployment.source,
        publishes=tuple(config.publishes),
        subscribes=tuple(config.subscribes),
        consumers=MappingProxyType({each.name: each for each in declared.consumers}),
        all_consumers=declared.consumers,
        read_models=MappingProxyType({each.name: each for each in declared.read_models}),
        all_read_models=declared.read_models,
        events=MappingProxyType(by_stored_name(declared.events)),
        subscribed=frozenset(stored_name(each) for each in config.subscribes),
        sources=frozenset(stored_name(each).partition(".")[0] for each in config.subscribes),
        signing=own.signing,
        verifying=own.verifying,
        _by_type=by_type(declared.consumers),
        _upcasters=declared.upcasters,
    )


def _owner_context(cls: EventClass, state: _State) -> Context:
    owner = owner_of(cls.__module__)
    if owner is not None:
        return state.by_label[owner.label]
    config = apps.get_containing_app_config(cls.__module__)
    where = f"{cls.__module__}.{cls.__qualname__}"
    if config is None:
        raise NotAContext(
            f"{where} is not in an app of INSTALLED_APPS, so it does not belong to a context"
        )
    raise NotAContext(
        f"{where} is in the app {config.label!r}, which is not a context: its AppConfig, "
        f"{type(config).__name__}, is not a subclass of ContextConfig"
    )
