"""The contexts of the project, read once and again after apps or settings have changed.

Everything that records or delivers asks here first, so an answer must cost a dictionary look-up,
and must never be that of settings which a test has replaced.
"""

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, cast

from django.apps import AppConfig, apps
from django.core.signals import setting_changed

from outbox_inbox.conf import ContextSettings, settings
from outbox_inbox.conf.section import suggestion
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent
from outbox_inbox.events.marks import Mark, mark_of
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.processes import Process

from .bounded_context import Context
from .consumers import Collector, by_type, collect_upcasters, definitions, is_process, path_of
from .declaring import (
    EVENTS,
    ContextConfig,
    by_stored_name,
    context_configs,
    declaration_problems,
    deployment_of,
    deployment_problems,
    import_modules,
    label_of,
    own_events,
    raise_problems,
    stored_name,
)
from .read_models import collect_read_models, is_projection


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
        raise NotAContext(f"The app {label!r} is {_not_a_context(apps.app_configs[label])}")
    raise NotAContext(f"There is no context {label!r}{suggestion(label, _state().by_label)}")


def context_of(event: EventClass | DomainEvent | IntegrationEvent) -> Context:
    """Return the context that an event or its class belongs to.

    It is the one whose app contains the module of the class; of nested apps, the innermost.

    Raises:
        NotAContext: the module is not in the app of a context.
    """
    cls = event if isinstance(event, type) else type(event)
    state = _state()
    if cls not in state.owners:
        state.owners[cls] = state.by_label[_owner_label(cls)]
    return state.owners[cls]


def _owner_label(cls: EventClass) -> str:
    if label := label_of(cls.__module__):
        return label
    config = apps.get_containing_app_config(cls.__module__)
    if config is None:
        where = "not in an app of INSTALLED_APPS, so it does not belong to a context"
    else:
        where = f"in the app {config.label!r}, which is {_not_a_context(config)}"
    raise NotAContext(f"{path_of(cls)} is {where}")


def _not_a_context(config: AppConfig) -> str:
    name = type(config).__name__
    return f"not a context: its AppConfig, {name}, is not a subclass of ContextConfig"


@dataclass
class _State:
    """The contexts as they were read, and the app registry they were read from."""

    configs: Mapping[str, AppConfig]
    contexts: tuple[Context, ...]
    by_label: Mapping[str, Context]
    owners: dict[EventClass, Context] = field(default_factory=dict)
    last: ClassVar["_State | None"] = None


_lock = threading.RLock()


def _state() -> _State:
    last = _State.last
    # The registry makes a new dict whenever INSTALLED_APPS changes, before any signal of it.
    if last is None or last.configs is not apps.app_configs:
        apps.check_models_ready()
        # Two threads would each read them, and a consumer of one have events of the other's context.
        with _lock:
            last = _State.last
            if last is None or last.configs is not apps.app_configs:
                last = _State.last = _read_state()
    return last


def _forget_state(*, setting: str, **_: object) -> None:
    if setting in ("OUTBOX_INBOX", "INSTALLED_APPS", "DATABASES"):
        # With the lock: another thread that is reading the old ones would store them afterwards.
        with _lock:
            _State.last = None


setting_changed.connect(_forget_state, dispatch_uid="outbox_inbox.contexts")


def _read_state() -> _State:
    configs = context_configs()
    raise_problems(problem for config in configs for problem in declaration_problems(config))
    raise_problems(problem for config in configs for problem in deployment_problems(config))
    found = tuple(map(_context, configs))
    return _State(apps.app_configs, found, {each.label: each for each in found})


def _context(config: ContextConfig) -> Context:
    for app in apps.get_app_configs():
        if label_of(app.name) == config.label:  # its own, and plain apps inside of it
            import_modules(app.name, EVENTS)
    modules = import_modules(config.name, config.modules)
    functions, processes = definitions(modules, mark_of), definitions(modules, is_process)
    events = _events(config, functions, processes)
    # An upcaster may also be defined beside its contract.
    homes = (sys.modules[name] for name in {each.__module__ for each in events})
    upcasters = collect_upcasters(dict.fromkeys([*functions, *definitions(homes, mark_of)]))
    collector = Collector(config.label, config.name, upcasters)
    consumers = (*collector.marked(functions), *collector.processes(processes))
    read_models = collect_read_models(collector, functions, definitions(modules, is_projection))
    database, transport, source = deployment_of(config)
    own = settings().contexts.get(config.label, ContextSettings())
    return Context(
        label=config.label,
        app=config.name,
        database=database,
        transport=transport,
        source=source,
        publishes=tuple(config.publishes),
        subscribes=tuple(config.subscribes),
        consumers=MappingProxyType({each.name: each for each in consumers}),
        all_consumers=consumers,
        read_models=MappingProxyType({each.name: each for each in read_models}),
        all_read_models=tuple(read_models),
        events=MappingProxyType(by_stored_name(events)),
        subscribed=frozenset(stored_name(each) for each in config.subscribes),
        sources=frozenset(stored_name(each).partition(".")[0] for each in config.subscribes),
        signing=own.signing,
        verifying=own.verifying,
        _by_type=by_type(consumers),
        _upcasters=upcasters,
    )


def _events(
    config: ContextConfig, functions: list[Any], processes: list[type[Process]]
) -> tuple[EventClass, ...]:
    """Return all events that a context declares, consumes or has itself."""
    marks = [cast(Mark, mark_of(function)) for function in functions]
    consumed = [cls for mark in marks for cls in mark.classes if not issubclass(cls, Process)]
    consumed += [event for process in processes for event in process.routes]
    return (*own_events(config.label), *config.publishes, *config.subscribes, *consumed)
