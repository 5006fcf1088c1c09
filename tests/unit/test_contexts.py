import importlib.util
import subprocess
import sys

import pytest
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import AppRegistryNotReady
from django.test import modify_settings, override_settings

import outbox_inbox
from outbox_inbox import DomainEvent
from outbox_inbox.contexts import ContextConfig, context_of, contexts, get_context
from outbox_inbox.exceptions import NotAContext, SettingsError
from tests.support.checked import BILLING, EVENTS


@pytest.fixture
def billing(packages):
    """The package of an installed context "billing"."""
    name = packages.context("billing", **BILLING)
    packages.install()
    return name


def module(*path):
    """Import a module of a package that was written for the test."""
    return importlib.import_module(".".join(path))


# ------------------------------------------------------------------------------------ the AppConfig


def test_default_app_config(packages):
    """An apps.py that imports ContextConfig and defines one subclass installs that subclass.

    Django counts both as candidates and silently takes a plain AppConfig when there are two.
    """
    name = packages.context("billing")
    packages.install()
    assert type(apps.get_app_config("billing")) is module(name, "apps").Config


def test_base_of_ones_own(packages):
    """A base class between them stays out of the choice by saying default = False itself."""
    packages.write(
        "billing",
        apps="""
            from outbox_inbox.contexts import ContextConfig

            class Base(ContextConfig):
                default = False

            class Config(Base):
                name = "PACKAGE"
                label = "billing"
        """,
    )
    packages.install()
    assert type(apps.get_app_config("billing")).__name__ == "Config"


def test_plain_app_configs_are_no_contexts(billing):
    """Only apps with a ContextConfig are contexts."""
    assert [each.label for each in contexts()] == ["billing"]


def test_sorted_by_label(packages):
    """Contexts come by label, whatever the order of INSTALLED_APPS."""
    for label in ("shipping", "billing", "ordering"):
        packages.context(label)
    packages.install()
    assert [each.label for each in contexts()] == ["billing", "ordering", "shipping"]


def test_import_error_is_loud(packages):
    """An ImportError inside a module of a context is seen at start."""
    packages.context("billing", handlers="import no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        packages.install()


def test_import_error_in_a_parent_is_loud(packages):
    """An ImportError of the package that holds a nested module is not taken for "missing"."""
    packages.context("billing", "modules = ['adapters.acl']", adapters__acl="")
    folder = packages.folder / packages.installed[0] / "adapters"
    (folder / "__init__.py").write_text("import no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        packages.install()


def test_missing_modules(packages):
    """A context need not have the conventional modules."""
    packages.context("billing")
    packages.install()
    assert get_context("billing").consumers == {}


UNIMPORTED = """
    from outbox_inbox import DomainEvent, upcasts

    class Paid(DomainEvent, version=2):
        amount: int

    @upcasts(Paid, from_version=1)
    def old(data):
        return data
"""


@pytest.mark.parametrize("where", ["events", "invoices__events"])
@pytest.mark.parametrize("declares", ["", "modules = ['handlers']", "def ready(self): ..."])
def test_events_that_no_module_imports_are_known(packages, where, declares):
    """A stored event can be read in a process that has only started, with its upcasters."""
    outer = packages.context("billing", declares, **{where: UNIMPORTED})
    apps_within = [f"{outer}.invoices"] if "__" in where else []
    for name in apps_within:
        (packages.folder / name.replace(".", "/") / "__init__.py").write_text("")
    packages.install(outer, *apps_within)
    billing = get_context("billing")
    paid = billing.event_class("billing.Paid")
    assert paid is not None
    assert set(billing.upcasters_of(paid)) == {1}


def test_ready_without_super(packages):
    """A ContextConfig that overrides ready() and forgets super() has its consumers all the same."""
    packages.context("billing", **{**BILLING, "declares": "def ready(self): ..."})
    packages.install()
    assert "billing.outbound" in get_context("billing").consumers


@pytest.mark.parametrize(
    ("declares", "message"),
    [
        ("publishes = ['billing.invoice_paid']", "Config.publishes[0] is 'billing.invoice_paid'"),
        ("subscribes = [int]", "Config.subscribes[0] is <class 'int'>; expected a contract"),
        ("publishes = 5", "Config.publishes is 5; expected a list of contracts"),
        ("modules = 'handlers'", "Config.modules is 'handlers'; expected a tuple"),
    ],
)
def test_wrong_declarations(packages, declares, message):
    """A wrong entry of a ContextConfig is refused at start, by its name."""
    packages.context("billing", declares)
    with pytest.raises(SettingsError) as caught:
        packages.install()
    assert str(caught.value).startswith(message)


def test_domain_event_among_contracts(packages):
    """A domain event cannot be published."""
    imports = "from .events import Paid"
    packages.context("billing", "publishes = [Paid]", imports, events=EVENTS)
    with pytest.raises(SettingsError, match=r"expected a contract"):
        packages.install()


def test_long_label(packages):
    """A label that would not fit into its column is refused."""
    packages.context("b" * 51)
    with pytest.raises(SettingsError, match="longer than 50 characters"):
        packages.install()


@pytest.mark.parametrize(
    ("declares", "message"),
    [
        (
            "database = 'defualt'",
            "Config.database is 'defualt', which is not in DATABASES; did you mean",
        ),
        ("transport = 'bus'", "Config.transport is 'bus', which is not in OUTBOX_INBOX"),
        ("source = 'strem'", "Config.source is 'strem'; expected 'outbox' or 'stream'; did you"),
    ],
)
def test_wrong_deployment(packages, declares, message):
    """What this deployment does not have is named when the contexts are first asked for."""
    packages.context("billing", declares)
    packages.install()
    with pytest.raises(SettingsError) as caught:
        contexts()
    assert str(caught.value).startswith(message)


# ----------------------------------------------------------------------------------------- look-ups


def test_context_of_a_class_and_of_an_event(billing):
    """A class, and an event of it, belong to the context whose app contains the module."""
    paid = module(billing, "events").Paid
    assert context_of(paid) is context_of(paid(amount=1)) is get_context("billing")


def test_context_of_a_nested_app(packages):
    """A plain app within the package of a context belongs to that context."""
    outer = packages.context("billing", invoices__events=EVENTS)
    (packages.folder / outer / "invoices" / "__init__.py").write_text("")
    packages.install(outer, f"{outer}.invoices")
    assert context_of(module(outer, "invoices", "events").Paid).label == "billing"


def test_context_of_a_nested_context(packages):
    """Of nested contexts the innermost has the class."""
    outer = packages.context(
        "billing",
        invoices__events=EVENTS,
        invoices__apps="""
            from outbox_inbox.contexts import ContextConfig

            class InvoicesConfig(ContextConfig):
                name = "PACKAGE.invoices"
        """,
    )
    (packages.folder / outer / "invoices" / "__init__.py").write_text("")
    packages.install(outer, f"{outer}.invoices")
    assert context_of(module(outer, "invoices", "events").Paid).label == "invoices"


def test_similar_package_names(packages):
    """A package is not taken for a part of another whose name it begins with."""
    name = packages.context("billing")
    other = f"{name}0"
    (packages.folder / other).mkdir()
    (packages.folder / other / "__init__.py").write_text(
        "from outbox_inbox import DomainEvent\n\nclass Paid(DomainEvent): ...\n"
    )
    packages.install(name)
    packages.installed.append(other)
    with pytest.raises(NotAContext):
        context_of(module(other).Paid)


def test_context_of_no_app():
    """A class outside of all apps belongs to no context, and the error says so."""

    class Homeless(DomainEvent): ...

    with pytest.raises(NotAContext, match=r"Homeless is not in an app of INSTALLED_APPS"):
        context_of(Homeless)


def test_context_of_a_plain_app(packages):
    """A class in a plain app does not belong to a context, and the error names the AppConfig."""
    name = packages.write("plain", events=EVENTS)
    packages.install()
    with pytest.raises(NotAContext, match="is not a context: its AppConfig, AppConfig, is not"):
        context_of(module(name, "events").Paid)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("biling", "There is no context 'biling'; did you mean 'billing'?"),
        ("zebra", "There is no context 'zebra'; known: billing"),
        ("auth", "The app 'auth' is not a context: its AppConfig, AuthConfig, is not a"),
    ],
)
def test_unknown_label(billing, label, message):
    """A label of no context is refused with a suggestion."""
    with pytest.raises(NotAContext) as caught:
        get_context(label)
    assert str(caught.value).startswith(message)


# ------------------------------------------------------------------------------ settings and caches


def test_deployment_overrides(packages):
    """OUTBOX_INBOX overrides database, transport and source of a ContextConfig."""
    packages.context("billing", "database = 'default'")
    packages.install(
        OUTBOX_INBOX={
            "TRANSPORTS": {"bus": "memory://"},
            "CONTEXTS": {"billing": {"database": "other", "transport": "bus", "source": "stream"}},
        }
    )
    found = get_context("billing")
    assert (found.database, found.transport, found.source) == ("other", "bus", "stream")


def test_override_settings(billing):
    """An override is seen at once, and gone at once."""
    with override_settings(OUTBOX_INBOX={"CONTEXTS": {"billing": {"database": "other"}}}):
        inside = get_context("billing").database
    assert (inside, get_context("billing").database) == ("other", "default")


def test_read_once(billing):
    """Between changes the contexts are read once: every question is a look-up."""
    assert contexts() is contexts()


def test_modified_apps(billing):
    """A context taken out of INSTALLED_APPS is gone, and back afterwards."""
    contexts()
    with modify_settings(INSTALLED_APPS={"remove": [billing]}):
        inside = contexts()
    assert inside == ()
    assert [each.label for each in contexts()] == ["billing"]


def test_registry_changed_without_a_signal(billing):
    """The app registry itself is watched, since it changes before any signal of it."""
    contexts()
    apps.set_installed_apps([name for name in settings.INSTALLED_APPS if name != billing])
    try:
        inside = contexts()
    finally:
        apps.unset_installed_apps()
    assert inside == ()


def test_what_a_project_derives_from_is_imported_before_the_apps_are_loaded():
    """Contexts, events and transports of its own may be in the package of an app."""
    code = (
        "from django.conf import settings; settings.configure();"
        "import outbox_inbox.contexts, outbox_inbox.transports"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_not_before_the_apps_are_loaded():
    """Asked while apps are being loaded, contexts() complains instead of guessing."""
    code = (
        "from django.conf import settings; settings.configure();"
        "from outbox_inbox.contexts import contexts; contexts()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert AppRegistryNotReady.__name__ in done.stderr.splitlines()[-1]


def test_not_before_the_models_are_loaded(packages):
    """Asked by a models.py, contexts() complains as well: handlers may need the models."""
    packages.context("billing", models="from outbox_inbox.contexts import contexts\ncontexts()\n")
    with pytest.raises(AppRegistryNotReady, match="Models"):
        packages.install()


# --------------------------------------------------------------------------------- the public names


def test_public_names():
    """The names that users import are these."""
    assert outbox_inbox.__all__ == [
        "ConcurrencyError",
        "DomainEvent",
        "DuplicateMessage",
        "Envelope",
        "IntegrationEvent",
        "InvalidEvent",
        "NotInAtomicBlock",
        "OutboxInboxError",
        "PermanentError",
        "cancel",
        "handles",
        "inbound",
        "outbound",
        "record",
        "upcasts",
    ]


def test_importable_before_django():
    """Public names and ContextConfig import no models, so any models.py may import them first."""
    code = "import sys, outbox_inbox.contexts; assert 'outbox_inbox.models' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_context_is_an_older_name_of_get_context():
    """Scripts import it, and no submodule of this name takes its place."""
    assert outbox_inbox.contexts.context is get_context
    assert importlib.util.find_spec("outbox_inbox.contexts.context") is None


@pytest.mark.parametrize("last", [True, False])
def test_any_order_of_apps(packages, last):
    """A context may stand before or after outbox_inbox in INSTALLED_APPS."""
    models = """
        from django.db import models
        from outbox_inbox import cancel, record

        class Invoice(models.Model): ...
    """
    name = packages.context("billing", models=models, **BILLING)
    packages.install()
    order = ["outbox_inbox", name] if last else [name, "outbox_inbox"]
    with override_settings(INSTALLED_APPS=order):
        assert get_context("billing").app == name


def test_the_package_imports_no_models():
    """Any apps.py may import the public names: models are reached when a function is called."""
    code = (
        "import sys; from outbox_inbox import *; "
        "print([name for name in sys.modules if name.startswith('outbox_inbox.models')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_context_config_is_an_app_config():
    """ContextConfig adds to Django's AppConfig and takes nothing away."""
    assert issubclass(ContextConfig, AppConfig)
