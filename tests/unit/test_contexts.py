import importlib
import subprocess
import sys
from zlib import crc32

import pytest
from django.apps import AppConfig, apps
from django.conf import settings
from django.core.exceptions import AppRegistryNotReady
from django.test import modify_settings, override_settings

import outbox_inbox
from outbox_inbox import DomainEvent
from outbox_inbox.contexts import ContextConfig, context_of, contexts, get_context
from outbox_inbox.exceptions import NotAContext, SettingsError

EVENTS = """
    from outbox_inbox import DomainEvent

    class Paid(DomainEvent):
        amount: int

    class Refunded(DomainEvent, name="money_back"):
        amount: int
"""
CONTRACTS = """
    from outbox_inbox import IntegrationEvent

    class InvoicePaid(IntegrationEvent, name="billing.invoice_paid"):
        amount: int
"""
ACL = """
    from outbox_inbox import outbound
    from .contracts import InvoicePaid
    from .events import Paid

    @outbound(Paid)
    def announce(event: Paid) -> InvoicePaid:
        return InvoicePaid(amount=event.amount)
"""
HANDLERS = """
    from outbox_inbox import handles
    from .events import Paid, Refunded

    @handles(Paid)
    def zoom(event): ...

    @handles(Paid, on_dead="skip", max_attempts=2, takes_envelope=True)
    def book(event, envelope): ...

    @handles(Refunded, name="billing.money", transaction="batch")
    def give_back(event): ...
"""
PUBLISHES = {
    "imports": "from .contracts import InvoicePaid",
    "declares": "publishes = [InvoicePaid]",
}
BILLING = {"events": EVENTS, "contracts": CONTRACTS, "acl": ACL, "handlers": HANDLERS, **PUBLISHES}


@pytest.fixture
def billing(packages):
    """The package of an installed context "billing"."""
    name = packages.context("billing", **BILLING)
    packages.install()
    return name


def module(*path):
    """Import a module of a package that was written for the test."""
    return importlib.import_module(".".join(path))


# ---------------------------------------------------------------------------- the AppConfig


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


def test_ready_without_super(packages):
    """A ContextConfig that overrides ready() and forgets super() has its consumers all the same."""
    packages.context(
        "billing", "def ready(self): ...", events=EVENTS, handlers=HANDLERS, contracts=CONTRACTS
    )
    packages.install()
    assert "billing.handlers.book" in get_context("billing").consumers


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
    packages.context(
        "billing", "publishes = [Paid]", imports="from .events import Paid", events=EVENTS
    )
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
        ("database = 'defualt'", "Config.database 'defualt' is not in DATABASES; did you mean"),
        ("transport = 'bus'", "Config.transport 'bus' is not in OUTBOX_INBOX"),
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


# ------------------------------------------------------------------------------- consumers


def test_names(billing):
    """A consumer's name is label, module below the package, and function, unless it is given."""
    assert list(get_context("billing").consumers) == [
        "billing.acl.announce",
        "billing.handlers.zoom",
        "billing.handlers.book",
        "billing.money",
    ]


def test_names_without_package(packages):
    """The default name survives that the package moves."""
    for number in (1, 2):
        packages.context(f"billing{number}", events=EVENTS, handlers=HANDLERS)
    packages.install()
    first, second = (
        [name.partition(".")[2] for name in each.consumers if name != "billing.money"]
        for each in contexts()
    )
    assert first == second


def test_handler_options(billing):
    """What a handler was marked with is what its consumer does."""
    book = get_context("billing").consumers["billing.handlers.book"]
    assert (book.kind, book.mode, book.on_dead, book.max_attempts, book.takes_envelope) == (
        "handler",
        "message",
        "skip",
        2,
        True,
    )


def test_translators_run_in_batches(billing):
    """A translator has no effects, so it always shares a transaction."""
    announce = get_context("billing").consumers["billing.acl.announce"]
    assert (announce.kind, announce.mode) == ("outbound", "batch")


def test_list_handlers(packages):
    """many=True makes a consumer of lists."""
    handlers = """
        from outbox_inbox import handles
        from .events import Paid

        @handles(Paid, many=True)
        def book(events): ...
    """
    packages.context("billing", events=EVENTS, handlers=handlers)
    packages.install()
    assert get_context("billing").consumers["billing.handlers.book"].mode == "list"


def test_hash(billing):
    """The hash of a consumer is the same in every process."""
    consumer = get_context("billing").consumers["billing.money"]
    assert consumer.hash == crc32(b"billing.money")


def test_consumers_of_a_type(billing):
    """A type's consumers come in the order of modules and of definition."""
    found = get_context("billing").consumers_of("billing.Paid")
    assert [each.function.__name__ for each in found] == ["announce", "zoom", "book"]


def test_consumers_of_an_unknown_type(billing):
    """Nobody consumes a type that was never heard of."""
    assert get_context("billing").consumers_of("billing.Unheard") == ()


def test_several_events_are_one_consumer(packages):
    """A function marked for several events is one consumer, so that it keeps their order."""
    handlers = """
        from outbox_inbox import handles
        from .events import Paid, Refunded

        @handles(Refunded)
        @handles(Paid)
        def follow(event): ...
    """
    name = packages.context("billing", events=EVENTS, handlers=handlers)
    packages.install()
    (consumer,) = get_context("billing").consumers.values()
    events = module(name, "events")
    assert consumer.events == {"billing.Paid": events.Paid, "money_back": events.Refunded}
    assert get_context("billing").consumers_of("money_back") == (consumer,)


def test_imported_functions_are_not_collected(packages):
    """A marked function belongs to the module that defines it, not to one that imports it."""
    packages.context(
        "billing",
        events=EVENTS,
        handlers=HANDLERS,
        acl="from .handlers import book, zoom, give_back",
    )
    packages.install()
    assert [each.name for each in get_context("billing").all_consumers] == [
        "billing.handlers.zoom",
        "billing.handlers.book",
        "billing.money",
    ]


def test_second_name_of_a_function(packages):
    """A function bound to two names is one consumer."""
    handlers = """
        from outbox_inbox import handles
        from .events import Paid

        @handles(Paid)
        def book(event): ...

        book_payment = book
    """
    packages.context("billing", events=EVENTS, handlers=handlers)
    packages.install()
    assert len(get_context("billing").all_consumers) == 1


def test_package_of_handlers(packages):
    """What a package imports from its own submodules is its own, with the submodule's name."""
    handlers = HANDLERS.replace("from .events", "from ..events")
    packages.context("billing", events=EVENTS, handlers__payments=handlers)
    folder = packages.folder / packages.installed[0] / "handlers"
    (folder / "__init__.py").write_text("from .payments import book")
    packages.install()
    assert list(get_context("billing").consumers) == ["billing.handlers.payments.book"]


def test_modules_of_ones_own(packages):
    """A ContextConfig can name other modules, nested ones too."""
    packages.context(
        "billing",
        "modules = ['adapters.incoming']",
        events=EVENTS,
        adapters__incoming=HANDLERS.replace("from .events", "from ..events"),
    )
    packages.install()
    assert "billing.adapters.incoming.book" in get_context("billing").consumers


def test_two_classes_of_one_type(packages):
    """A function cannot read one type as two classes."""
    handlers = """
        from outbox_inbox import DomainEvent, handles
        from .events import Paid as First

        class Paid(DomainEvent): ...

        @handles(Paid)
        @handles(First)
        def book(event): ...
    """
    packages.context("billing", events=EVENTS, handlers=handlers)
    packages.install()
    with pytest.raises(SettingsError, match=r"takes two classes of billing\.Paid"):
        contexts()


def test_long_consumer_name(packages):
    """A default name that would not fit into its column is refused, with the way out."""
    handlers = HANDLERS.replace("zoom", "z" * 200)
    packages.context("billing", events=EVENTS, handlers=handlers)
    packages.install()
    with pytest.raises(SettingsError, match="name= in @handles"):
        contexts()


# ------------------------------------------------------------------------------- upcasters

UPCAST = """
    from outbox_inbox import DomainEvent, IntegrationEvent, upcasts

    class InvoicePaid(IntegrationEvent, name="billing.invoice_paid", version=3):
        amount: int
"""


def test_upcasters_beside_the_contract(packages):
    """Upcasters are found in the module that declares the contract."""
    contracts = f"""{UPCAST}
    @upcasts(InvoicePaid, from_version=1)
    def first(data):
        return data
    """
    name = packages.context("billing", **PUBLISHES, contracts=contracts)
    packages.install()
    declared = module(name, "contracts")
    assert get_context("billing").upcasters_of(declared.InvoicePaid) == {1: declared.first}


def test_upcasters_in_the_modules(packages):
    """Upcasters are found among the handlers and translators."""
    acl = """
        from outbox_inbox import upcasts
        from .contracts import InvoicePaid

        @upcasts(InvoicePaid, from_version=2)
        def second(data):
            return data
    """
    name = packages.context("billing", **PUBLISHES, contracts=UPCAST, acl=acl)
    packages.install()
    cls = module(name, "contracts").InvoicePaid
    assert get_context("billing").upcasters_of(cls) == {2: module(name, "acl").second}


def test_consumers_know_their_upcasters(packages):
    """A consumer has the upcasters of its events at hand."""
    handlers = f"""{UPCAST}
    from outbox_inbox import handles

    @upcasts(InvoicePaid, from_version=1)
    def first(data):
        return data

    @handles(InvoicePaid)
    def book(event): ...
    """
    name = packages.context("billing", handlers=handlers)
    packages.install()
    consumer = get_context("billing").consumers["billing.handlers.book"]
    found = module(name, "handlers")
    assert consumer.upcasters_of(found.InvoicePaid) == {1: found.first}


def test_no_upcasters(billing):
    """A class without upcasters has none, and asking is no error."""
    assert get_context("billing").upcasters_of(module(billing, "events").Paid) == {}


def test_two_upcasters_of_one_version(packages):
    """Two functions that upcast one version are refused: which one runs would be chance."""
    contracts = f"""{UPCAST}
    @upcasts(InvoicePaid, from_version=1)
    def first(data): ...

    @upcasts(InvoicePaid, from_version=1)
    def other(data): ...
    """
    packages.context("billing", **PUBLISHES, contracts=contracts)
    packages.install()
    with pytest.raises(SettingsError, match=r"both upcast InvoicePaid from version 1"):
        contexts()


# ---------------------------------------------------------------------------------- events


def test_type_names(billing):
    """A domain event is stored as label and class, unless named; a contract by its name."""
    events, contracts = module(billing, "events"), module(billing, "contracts")
    names = map(
        get_context("billing").type_name, (events.Paid, events.Refunded, contracts.InvoicePaid)
    )
    assert list(names) == ["billing.Paid", "money_back", "billing.invoice_paid"]


def test_event_classes(billing):
    """A context knows the classes of the types that it declares, consumes or has itself."""
    assert set(get_context("billing").events) == {
        "billing.Paid",
        "money_back",
        "billing.invoice_paid",
    }


def test_event_nobody_consumes(packages):
    """A domain event without consumers is known as well, since streams hold it."""
    name = packages.context("billing", events=EVENTS, handlers="from . import events")
    packages.install()
    assert get_context("billing").event_class("money_back") is module(name, "events").Refunded


def test_event_imported_late(packages):
    """A class that is imported after the contexts were read is found when it is asked for."""
    name = packages.context("billing", events=EVENTS)
    packages.install()
    contexts()
    late = module(name, "events")
    assert get_context("billing").event_class("billing.Paid") is late.Paid


def test_unknown_event(billing):
    """A type without a class is None."""
    assert get_context("billing").event_class("billing.Unheard") is None


@pytest.mark.parametrize(
    "publishes", ["[InvoicePaid, InvoicePaid2]", "[InvoicePaid2, InvoicePaid]"]
)
def test_newer_version_reads_both(packages, publishes):
    """Of two declared versions of a contract, the newer class reads the stored messages."""
    contracts = f"""{CONTRACTS}
    class InvoicePaid2(IntegrationEvent, name="billing.invoice_paid", version=2): ...
    """
    name = packages.context(
        "billing",
        f"publishes = {publishes}",
        imports="from .contracts import InvoicePaid, InvoicePaid2",
        contracts=contracts,
    )
    packages.install()
    newer = module(name, "contracts").InvoicePaid2
    assert get_context("billing").events["billing.invoice_paid"] is newer


def test_published_classes(billing, packages):
    """What a context publishes is the very class that it declares."""
    contracts = module(billing, "contracts")
    billing_context = get_context("billing")
    assert billing_context.publishes_class(contracts.InvoicePaid)
    assert not billing_context.publishes_class(module(billing, "events").Paid)


def test_subscribed_types(packages):
    """What a context subscribes to is a set of type names."""
    packages.context(
        "shop",
        "subscribes = [InvoicePaid]",
        imports="from .contracts import InvoicePaid",
        contracts=CONTRACTS,
    )
    packages.install()
    assert get_context("shop").subscribed == {"billing.invoice_paid"}


# ------------------------------------------------------------------------------- look-ups


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
    """A class in an app that is no context belongs to none, and the error names the AppConfig."""
    name = packages.write("plain", events=EVENTS)
    packages.install()
    with pytest.raises(
        NotAContext, match=r"which is not a context: its AppConfig, AppConfig, is not"
    ):
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


# ------------------------------------------------------------------------- settings and caches


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


# --------------------------------------------------------------------------- the public names


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
    code = (
        "import sys, outbox_inbox, outbox_inbox.contexts; "
        "assert 'outbox_inbox.models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
