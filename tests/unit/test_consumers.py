import importlib
from zlib import crc32

import pytest

from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.exceptions import SettingsError
from tests.support import checked
from tests.support.checked import CONTRACTS, PUBLISHES, SUBSCRIBES

EVENTS = f"""{checked.EVENTS}
    class Refunded(DomainEvent, name="money_back"):
        amount: int
"""
IMPORTS = """
    from outbox_inbox import handles
    from .events import Paid, Refunded
"""
HANDLERS = f"""{IMPORTS}
    @handles(Paid)
    def zoom(event): ...

    @handles(Paid, on_dead="skip", max_attempts=2, takes_envelope=True)
    def book(event, envelope): ...

    @handles(Refunded, name="billing.money", transaction="batch")
    def give_back(event): ...
"""


def installed(packages, declares="", imports="", **modules):
    """Install a context "billing" with these modules, and return it."""
    packages.context("billing", declares, imports, **modules)
    packages.install()
    return get_context("billing")


@pytest.fixture
def billing(packages):
    """An installed context "billing"."""
    return installed(packages, **{**checked.BILLING, "events": EVENTS, "handlers": HANDLERS})


def module(context, name):
    """Import a module of a context that was written for the test."""
    return importlib.import_module(f"{context.app}.{name}")


def test_names(billing):
    """A handler's name is label, module below the package and function; all translators are one."""
    assert list(billing.consumers) == [
        "billing.outbound",
        "billing.handlers.zoom",
        "billing.handlers.book",
        "billing.money",
    ]


def test_names_without_package(packages):
    """The default name survives that the package moves."""
    for label in ("billing1", "billing2"):
        packages.context(label, events=EVENTS, handlers=HANDLERS)
    packages.install()
    first, second = ([name.partition(".")[2] for name in each.consumers] for each in contexts())
    assert first == second


def test_handler_options(billing):
    """What a handler was marked with is what its consumer does."""
    book = billing.consumers["billing.handlers.book"]
    assert (book.kind, book.mode, book.takes_envelope) == ("handler", "message", True)
    assert (book.on_dead, book.max_attempts) == ("skip", 2)


def test_translators_run_in_batches(billing):
    """A translator has no effects, so it always shares a transaction."""
    announce = billing.consumers["billing.outbound"]
    assert (announce.kind, announce.mode) == ("outbound", "batch")


def test_list_handlers(packages):
    """many=True makes a consumer of lists."""
    handlers = f"{IMPORTS}\n    @handles(Paid, many=True)\n    def book(events): ..."
    billing = installed(packages, events=EVENTS, handlers=handlers)
    assert billing.consumers["billing.handlers.book"].mode == "list"


def test_hash(billing):
    """The hash of a consumer is the same in every process."""
    consumer = billing.consumers["billing.money"]
    assert consumer.hash == crc32(b"billing.money")


def test_consumers_of_a_type(billing):
    """A type's consumers come in the order of modules and of definition."""
    found = billing.consumers_of("billing.Paid")
    assert [each.functions[0].call.__name__ for each in found] == ["announce", "zoom", "book"]


def test_consumers_of_an_unknown_type(billing):
    """A type that was never heard of has no consumers."""
    assert billing.consumers_of("billing.Unheard") == ()


def test_several_events_are_one_consumer(packages):
    """A function marked for several events is one consumer, so that it keeps their order."""
    handlers = f"{IMPORTS}\n    @handles(Refunded)\n    @handles(Paid)\n    def follow(event): ..."
    billing = installed(packages, events=EVENTS, handlers=handlers)
    (consumer,) = billing.consumers.values()
    events = module(billing, "events")
    assert consumer.events == {"billing.Paid": events.Paid, "money_back": events.Refunded}
    assert billing.consumers_of("money_back") == (consumer,)


def test_imported_functions_are_not_collected(packages):
    """A marked function belongs to the module that defines it, not to one that imports it."""
    acl = "from .handlers import book, zoom, give_back"
    billing = installed(packages, events=EVENTS, handlers=HANDLERS, acl=acl)
    assert [each.name for each in billing.all_consumers] == [
        "billing.handlers.zoom",
        "billing.handlers.book",
        "billing.money",
    ]


def test_second_name_of_a_function(packages):
    """A function bound to two names is one consumer."""
    handlers = f"{IMPORTS}\n    @handles(Paid)\n    def book(event): ...\n\n    pay = book"
    billing = installed(packages, events=EVENTS, handlers=handlers)
    assert len(billing.all_consumers) == 1


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
    handlers = HANDLERS.replace("from .events", "from ..events")
    modules = "modules = ['adapters.incoming']"
    billing = installed(packages, modules, events=EVENTS, adapters__incoming=handlers)
    assert "billing.adapters.incoming.book" in billing.consumers


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
    with pytest.raises(SettingsError, match=r"takes two classes of billing\.Paid"):
        installed(packages, events=EVENTS, handlers=handlers)


def test_long_consumer_name(packages):
    """A default name that would not fit into its column is refused, with the way out."""
    handlers = HANDLERS.replace("zoom", "z" * 200)
    with pytest.raises(SettingsError, match="name= in @handles"):
        installed(packages, events=EVENTS, handlers=handlers)


# ---------------------------------------------------------------------------------------- upcasters

UPCAST = """
    from outbox_inbox import DomainEvent, IntegrationEvent, upcasts

    class InvoicePaid(IntegrationEvent, name="billing.invoice_paid", version=3):
        amount: int
"""


def test_upcasters_beside_the_contract(packages):
    """Upcasters are found in the module that declares the contract."""
    contracts = f"{UPCAST}\n    @upcasts(InvoicePaid, from_version=1)\n    def first(data): ..."
    billing = installed(packages, **{**PUBLISHES, "contracts": contracts})
    declared = module(billing, "contracts")
    assert billing.upcasters_of(declared.InvoicePaid) == {1: declared.first}


def test_upcasters_in_the_modules(packages):
    """Upcasters are found among the handlers and translators."""
    acl = """
        from outbox_inbox import upcasts
        from .contracts import InvoicePaid

        @upcasts(InvoicePaid, from_version=2)
        def second(data): ...
    """
    billing = installed(packages, **{**PUBLISHES, "contracts": UPCAST, "acl": acl})
    cls = module(billing, "contracts").InvoicePaid
    assert billing.upcasters_of(cls) == {2: module(billing, "acl").second}


def test_consumers_know_their_upcasters(packages):
    """A consumer has the upcasters of its events at hand."""
    handlers = f"""{UPCAST}
    from outbox_inbox import handles

    @upcasts(InvoicePaid, from_version=1)
    def first(data): ...

    @handles(InvoicePaid)
    def book(event): ...
    """
    billing = installed(packages, handlers=handlers)
    consumer = billing.consumers["billing.handlers.book"]
    found = module(billing, "handlers")
    assert consumer.upcasters_of(found.InvoicePaid) == {1: found.first}


def test_no_upcasters(billing):
    """A class without upcasters has none, and asking does not fail."""
    assert billing.upcasters_of(module(billing, "events").Paid) == {}


def test_two_upcasters_of_one_version(packages):
    """Two functions that upcast one version are refused: which one runs would be chance."""
    contracts = f"""{UPCAST}
    @upcasts(InvoicePaid, from_version=1)
    def first(data): ...

    @upcasts(InvoicePaid, from_version=1)
    def other(data): ...
    """
    with pytest.raises(SettingsError, match=r"both upcast InvoicePaid from version 1"):
        installed(packages, **{**PUBLISHES, "contracts": contracts})


# ------------------------------------------------------------------------------------------- events


def test_type_names(billing):
    """A domain event is stored as label and class, unless named; a contract by its name."""
    events, contracts = module(billing, "events"), module(billing, "contracts")
    classes = (events.Paid, events.Refunded, contracts.InvoicePaid)
    assert [billing.type_name(cls) for cls in classes] == [
        "billing.Paid",
        "money_back",
        "billing.invoice_paid",
    ]


def test_event_classes(billing):
    """A context knows the classes of the types that it declares, consumes or has itself."""
    assert set(billing.events) == {"billing.Paid", "money_back", "billing.invoice_paid"}


def test_event_nobody_consumes(packages):
    """A domain event without consumers is known as well, since streams hold it."""
    billing = installed(packages, events=EVENTS, handlers="from . import events")
    assert billing.event_class("money_back") is module(billing, "events").Refunded


def test_event_imported_late(packages):
    """A class that is imported after the contexts were read is found when it is asked for."""
    billing = installed(packages, events=EVENTS)
    late = module(billing, "events")
    assert billing.event_class("billing.Paid") is late.Paid


def test_unknown_event(billing):
    """A type without a class is None."""
    assert billing.event_class("billing.Unheard") is None


@pytest.mark.parametrize(
    "publishes", ["[InvoicePaid, InvoicePaid2]", "[InvoicePaid2, InvoicePaid]"]
)
def test_newer_version_reads_both(packages, publishes):
    """Of two declared versions of a contract, the newer class reads the stored messages."""
    contracts = f"""{CONTRACTS}
    class InvoicePaid2(IntegrationEvent, name="billing.invoice_paid", version=2): ...
    """
    imports = "from .contracts import InvoicePaid, InvoicePaid2"
    billing = installed(packages, f"publishes = {publishes}", imports, contracts=contracts)
    newer = module(billing, "contracts").InvoicePaid2
    assert billing.events["billing.invoice_paid"] is newer


def test_published_classes(billing):
    """What a context publishes is the very class that it declares."""
    assert billing.publishes_class(module(billing, "contracts").InvoicePaid)
    assert not billing.publishes_class(module(billing, "events").Paid)


def test_subscribed_types(packages):
    """What a context subscribes to is a set of type names."""
    assert installed(packages, **SUBSCRIBES).subscribed == {"billing.invoice_paid"}
