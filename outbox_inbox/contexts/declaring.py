"""ContextConfig: how an app declares that it is a context, and what belongs to that context.

A mistake here would otherwise show up when the first message is recorded, so all declarations are
checked before any context is used. Messages outlive deployments: two classes of one stored name, or
a name that changes, would make stored messages unreadable.
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

from django.apps import AppConfig, apps
from django.core import checks
from django.db import connections, models
from django.utils.module_loading import module_has_submodule

from outbox_inbox.conf import ContextSettings, Source, settings
from outbox_inbox.conf.section import did_you_mean, shown, suggestion
from outbox_inbox.events import DomainEvent, EventClass, IntegrationEvent, meta
from outbox_inbox.exceptions import SettingsError

APP = "outbox_inbox"
MAX_LABEL = 50

EVENTS = ("events",)
"""Always imported: a stored event whose class no consumer imports could not be read otherwise."""


class ContextConfig(AppConfig):
    """The AppConfig of a bounded context: subclass it in the ``apps.py`` of the app.

    Attributes:
        publishes: contracts (classes of integration events) that this context records.
        subscribes: contracts of other contexts that it wants to receive.
        modules: where its consumers are, below the app's package; missing modules are skipped;
            default ``("acl", "handlers", "projections", "processes")``. The module ``events`` is
            imported in any case; name others here that have classes of events.
        database: alias of the database of its queues and models; default "default".
        transport: alias in OUTBOX_INBOX["TRANSPORTS"]; default "default".
        source: "outbox" (default), or "stream" to relay from the local stream.

    A deployment may override the last three in OUTBOX_INBOX["CONTEXTS"].
    """

    # Django counts each AppConfig class in an apps.py as a candidate, also this imported one, and
    # takes a plain AppConfig if there are two of them: only subclasses may be candidates.
    default = False
    publishes: Sequence[type[IntegrationEvent]] = ()
    subscribes: Sequence[type[IntegrationEvent]] = ()
    modules: Sequence[str] = ("acl", "handlers", "projections", "processes")
    database: str = "default"
    transport: str = "default"
    source: Source = "outbox"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "default" not in vars(cls):
            cls.default = True

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        # All other checks are registered by the app that may be missing.
        checks.register(check_installed, "outbox_inbox")

    def ready(self) -> None:
        """Import the modules, so that an error in them is seen at start.

        A subclass that overrides it without ``super()`` loses only this.

        Raises:
            SettingsError: an attribute is wrong.
        """
        raise_problems(declaration_problems(self))
        if not apps.is_installed(APP):
            return  # check E023; the modules may import models, which cannot be without the app
        import_modules(self.name, (*EVENTS, *self.modules))


def check_installed(**_: Any) -> list[checks.CheckMessage]:
    """E023: there are contexts, but not the app that has their tables, commands and checks."""
    if apps.is_installed(APP) or not (found := context_configs()):
        return []
    return [
        checks.Error(
            f"The apps {', '.join(config.label for config in found)} are contexts, but {APP!r} is not "
            "in INSTALLED_APPS: there are no tables for their events.",
            hint=f'Add "{APP}" to INSTALLED_APPS, and run manage.py migrate.',
            id=f"{APP}.E023",
        )
    ]


def import_modules(package: str, names: Iterable[str]) -> list[ModuleType]:
    """Import those of the modules that exist below ``package``; an error within one is raised."""
    found = (_imported(package, name) for name in names)
    return [module for module in found if module is not None]


def _imported(package: str, name: str) -> ModuleType | None:
    module = import_module(package)
    for part in name.split("."):
        # Searched before it is imported: an ImportError from within it does not mean "missing".
        if not module_has_submodule(module, part):
            return None
        module = import_module(f"{module.__name__}.{part}")
    return module


def raise_problems(problems: Iterable[str]) -> None:
    """Raise one SettingsError with all problems, if there are any."""
    found = list(problems)
    if found:
        raise SettingsError("\n".join(found))


def declaration_problems(config: ContextConfig) -> Iterator[str]:
    """Yield what is wrong with the attributes of a ContextConfig, whatever the deployment."""
    name = type(config).__name__
    if len(config.label) > MAX_LABEL:
        yield f"{name}.label {config.label!r} is longer than {MAX_LABEL} characters"
    for attribute in ("publishes", "subscribes"):
        yield from _contract_problems(name, attribute, getattr(config, attribute))
    modules: object = config.modules
    if not isinstance(modules, list | tuple) or not all(isinstance(each, str) for each in modules):
        yield f'{name}.modules is {modules!r}; expected a tuple such as ("acl", "handlers")'


def _contract_problems(name: str, attribute: str, declared: object) -> Iterator[str]:
    if not isinstance(declared, list | tuple):
        yield f"{name}.{attribute} is {declared!r}; expected a list of contracts"
        return
    for index, each in enumerate(declared):
        is_contract = isinstance(each, type) and issubclass(each, IntegrationEvent)
        if not is_contract or each is IntegrationEvent:
            yield (
                f"{name}.{attribute}[{index}] is {each!r}; expected a contract, "
                "the class of an integration event"
            )


def deployment_of(config: ContextConfig) -> tuple[str, str, Source]:
    """Return database, transport and source, as overridden in OUTBOX_INBOX["CONTEXTS"]."""
    override = settings().contexts.get(config.label, ContextSettings())
    return (
        override.database or config.database,
        override.transport or config.transport,
        override.source or config.source,
    )


def deployment_problems(config: ContextConfig) -> Iterator[str]:
    """Yield what the context needs but this deployment does not have."""
    name, (database, transport, source) = type(config).__name__, deployment_of(config)
    if database not in connections:
        known = suggestion(database, tuple(connections))
        yield f"{name}.database is {shown(database)}, which is not in DATABASES{known}"
    if transport not in settings().transports:
        known = suggestion(transport, settings().transports)
        yield f'{name}.transport is {shown(transport)}, which is not in OUTBOX_INBOX["TRANSPORTS"]{known}'
    if source not in get_args(Source):
        known = did_you_mean(source, get_args(Source))
        yield f"{name}.source is {shown(source)}; expected 'outbox' or 'stream'{known}"


def context_configs() -> list[ContextConfig]:
    """Return the ContextConfigs among the installed apps, by label."""
    found = [config for config in apps.get_app_configs() if isinstance(config, ContextConfig)]
    return sorted(found, key=lambda config: config.label)


def label_of(module: str) -> str | None:
    """Return the label of the context whose app contains the module; of nested ones, the innermost."""
    found = [each for each in context_configs() if f"{module}.".startswith(f"{each.name}.")]
    return max(found, key=lambda each: len(each.name)).label if found else None


def owner_of(model: type[models.Model]) -> str | None:
    """Return the label of the context that a model belongs to: that of its app.

    The module of the class may be in another app, such as the third-party one that was forked.
    """
    config = apps.app_configs.get(model._meta.app_label)
    return None if config is None else label_of(config.name)


def models_of(label: str, *, with_links: bool = False) -> Iterator[type[models.Model]]:
    """Yield the models of a context's app, and of plain apps inside of it.

    Arguments:
        with_links: also the tables that Django makes for many-to-many fields.
    """
    for config in apps.get_app_configs():
        if label_of(config.name) == label:
            yield from config.get_models(include_auto_created=with_links)


def stored_name(event: EventClass) -> str:
    """Return the name under which messages of a class are stored."""
    label = label_of(event.__module__)
    return meta(event).name or (f"{label}." if label else "") + event.__name__


def by_stored_name(events: Iterable[EventClass]) -> dict[str, EventClass]:
    """Return the classes by the names under which their messages are stored."""
    found: dict[str, EventClass] = {}
    for event in events:
        name = stored_name(event)
        # Two versions of a contract may be declared side by side: the newer one reads both.
        if name not in found or meta(found[name]).version < meta(event).version:
            found[name] = event
    return found


def own_events(label: str) -> list[type[DomainEvent]]:
    """Return the domain events of a context that have been imported so far."""
    found = dict.fromkeys(_subclasses(DomainEvent))
    return [each for each in found if label_of(each.__module__) == label]


def _subclasses(cls: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)
