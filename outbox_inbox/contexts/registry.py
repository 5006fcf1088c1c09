"""The contexts of the project."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from django.apps import AppConfig, apps
from django.core.signals import setting_changed

from outbox_inbox.conf import ContextSettings, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.events import DomainEvent, IntegrationEvent
from outbox_inbox.events.marking import EventClass, marks_of
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.processes import Process

from .consumers import (
    collect_consumers,
    collect_upcasters,
    import_modules,
    marked_functions,
)
from .context import Context
from .declaring import (
    ContextConfig,
    context_configs,
    declaration_problems,
    deployment_of,
    deployment_problems,
    owner_of,
    refuse,
)
from .names import by_stored_name, consumers_by_type, own_events, stored_name
from .processes import collect_processes, process_classes
from .read_models import collect_read_models


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


def context_of(event: EventClass | DomainEvent | IntegrationEvent) -> Context:
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
    owners: dict[EventClass, Context] = field(default_factory=dict)
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
    known = [*own_events(config.label), *config.publishes, *config.subscribes, *consumed]
    # An upcaster may also stand beside its contract.
    beside = marked_functions(sys.modules[name] for name in {each.__module__ for each in known})
    upcasters = collect_upcasters(dict.fromkeys([*functions, *beside]))
    consumers = collect_consumers(functions, config.label, config.name, stored_name, upcasters)
    consumers += collect_processes(modules, config.label, config.name, stored_name, upcasters)
    read_models = collect_read_models(functions, modules, config.label, stored_name, upcasters)
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
        events=MappingProxyType(by_stored_name(known)),
        subscribed=frozenset(stored_name(each) for each in config.subscribes),
        sources=frozenset(stored_name(each).partition(".")[0] for each in config.subscribes),
        signing=own.signing,
        verifying=own.verifying,
        _published=frozenset(config.publishes),
        _by_type=consumers_by_type(consumers),
        _upcasters=upcasters,
    )


def _look_up(cls: EventClass, state: _State) -> Context:
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
