import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections

from outbox_inbox.checks import check_contexts
from outbox_inbox.queues.wakeup import notifier

ROOT = Path(__file__).resolve().parents[2]
EVENTS = """
    from outbox_inbox import DomainEvent

    class Paid(DomainEvent):
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
    def announce(event: Paid) -> InvoicePaid | None:
        return InvoicePaid(amount=event.amount)
"""
HANDLERS = """
    from outbox_inbox import handles
    from .contracts import InvoicePaid

    @handles(InvoicePaid)
    def book(event): ...
"""
PUBLISHES = {
    "imports": "from .contracts import InvoicePaid",
    "declares": "publishes = [InvoicePaid]",
    "contracts": CONTRACTS,
}
SUBSCRIBES = {**PUBLISHES, "declares": "subscribes = [InvoicePaid]"}
BILLING = {**PUBLISHES, "events": EVENTS, "acl": ACL}
SHOP = {**SUBSCRIBES, "handlers": HANDLERS}
REMOTE = {"TRANSPORTS": {"default": "memory://"}}
SQLITE = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}


@pytest.fixture(autouse=True)
def fit_database(monkeypatch):
    """Databases that the checks have nothing to say about."""
    for connection in connections.all():
        if connection.vendor == "sqlite":
            monkeypatch.setitem(connection.settings_dict, "OPTIONS", SQLITE)


def run(packages, *names, **settings):
    """Install the packages and return what the checks find."""
    packages.install(*names, **settings)
    return checks.run_checks(tags=["outbox_inbox"])


def ids(packages, *names, **settings):
    """Install the packages and return the ids of what the checks find."""
    return [
        message.id.removeprefix("outbox_inbox.") for message in run(packages, *names, **settings)
    ]


def test_healthy_project(packages):
    """Two contexts that fit together have nothing to be told."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SHOP)
    assert run(packages) == []


@pytest.mark.sqlite
def test_no_contexts(packages, monkeypatch):
    """Without contexts there is nothing to be told, on SQLite without options either."""
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    assert run(packages) == []


def test_empty_project(tmp_path):
    """In a project as Django starts it, with the app installed, `manage.py check` is silent."""
    call_command("startproject", "shop", str(tmp_path))
    with (tmp_path / "shop" / "settings.py").open("a") as settings:
        settings.write("INSTALLED_APPS += ['outbox_inbox']\n")
    command = [sys.executable, "manage.py", "check", "--fail-level", "DEBUG"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "shop.settings"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)


def test_the_example():
    """The example project has nothing to be told."""
    assert apps.is_installed("context_a")
    assert check_contexts(None) == []


def test_hints(packages):
    """Each message says the way out, and which context it is about."""
    packages.context("billing", **BILLING)
    packages.context("shop", **{**SHOP, "handlers": ""})
    (message,) = run(packages)
    assert message.hint.startswith("Mark a function with @handles or @inbound")
    assert message.obj == "shop"


def test_of_one_app(packages):
    """A check that is asked for one app leaves the others out."""
    packages.context("billing", **{**BILLING, "acl": ""})
    packages.context("shop", **SHOP)
    packages.install()
    assert check_contexts([apps.get_app_config("shop")]) == []


def test_by_the_command(packages):
    """`manage.py check` fails when a check finds an error."""
    packages.context("billing", **PUBLISHES)
    packages.install()
    with pytest.raises(SystemCheckError, match="E004"):
        call_command("check", tags=["outbox_inbox"])


# --------------------------------------------------------------------------------- contracts


@pytest.mark.parametrize("name", ["", ', name="InvoicePaid"', ', name="billing"'])
def test_e001_name(packages, name):
    """A contract without a dotted lower-case name is an error."""
    contracts = CONTRACTS.replace(', name="billing.invoice_paid"', name)
    packages.context("billing", **{**BILLING, "contracts": contracts})
    assert ids(packages) == ["E001"]


def test_e001_of_a_view(packages):
    """A subscriber's view of a contract needs the name as well."""
    contracts = CONTRACTS.replace(', name="billing.invoice_paid"', "")
    packages.context("shop", **{**SHOP, "contracts": contracts})
    assert ids(packages, OUTBOX_INBOX=REMOTE) == ["E001"]


def test_e003_two_publishers(packages):
    """Two contexts that publish one name and version are told of each other."""
    packages.context("billing", **BILLING)
    packages.context("ledger", **BILLING)
    found = [(message.id, message.obj) for message in run(packages)]
    assert [each for each in found if each[0] != "outbox_inbox.E016"] == [
        ("outbox_inbox.E003", "billing"),
        ("outbox_inbox.E003", "ledger"),
    ]


def test_e003_two_versions(packages):
    """A context may publish two versions of a contract side by side."""
    contracts = f"""{CONTRACTS}
    from outbox_inbox import upcasts

    class Newer(IntegrationEvent, name="billing.invoice_paid", version=2): ...

    @upcasts(Newer, from_version=1)
    def upcast(data):
        return data
    """
    acl = ACL.replace("import InvoicePaid", "import InvoicePaid, Newer").replace("None", "Newer")
    packages.context(
        "billing",
        "publishes = [InvoicePaid, Newer]",
        imports="from .contracts import InvoicePaid, Newer",
        contracts=contracts,
        events=EVENTS,
        acl=acl,
    )
    assert ids(packages) == []


def test_e003_twice_in_one(packages):
    """Two classes of one name and version in one context are an error."""
    contracts = f"""{CONTRACTS}
    class Other(IntegrationEvent, name="billing.invoice_paid"): ...
    """
    acl = ACL.replace("import InvoicePaid", "import InvoicePaid, Other").replace("None", "Other")
    packages.context(
        "billing",
        "publishes = [InvoicePaid, Other]",
        imports="from .contracts import InvoicePaid, Other",
        contracts=contracts,
        events=EVENTS,
        acl=acl,
    )
    assert ids(packages) == ["E003", "E003"]


def test_e016_a_name_of_another_context(packages):
    """A contract is named after the context that publishes it: there subscribers look for it."""
    packages.context("ledger", **BILLING)
    (message,) = run(packages)
    assert (message.id, message.obj) == ("outbox_inbox.E016", "ledger")
    assert "expect it from the context 'billing'" in message.msg
    assert '"ledger.invoice_paid"' in message.hint


def test_e004_nothing_produces(packages):
    """A contract that is published and never made is an error."""
    packages.context("billing", **PUBLISHES)
    assert ids(packages) == ["E004"]


def test_e004_other_translators(packages):
    """A translator of another contract does not count."""
    acl = ACL.replace("-> InvoicePaid | None", "-> Other").replace("InvoicePaid", "Other")
    contracts = f"""{CONTRACTS}
    class Other(IntegrationEvent, name="billing.other"):
        amount: int
    """
    packages.context(
        "billing",
        "publishes = [InvoicePaid, Other]",
        imports="from .contracts import InvoicePaid, Other",
        contracts=contracts,
        events=EVENTS,
        acl=acl,
    )
    (message,) = run(packages)
    assert message.id == "outbox_inbox.E004"
    assert "InvoicePaid" in message.msg


@pytest.mark.parametrize(
    "annotation",
    [
        "InvoicePaid",
        "InvoicePaid | None",
        "'InvoicePaid | None'",
        "list[InvoicePaid]",
        "tuple[InvoicePaid, ...]",
        "Annotated[Optional[InvoicePaid], 'x']",
        "Union[list[InvoicePaid], None]",
    ],
)
def test_e004_return_annotations(packages, annotation):
    """A translator says by its return annotation what it produces."""
    acl = f"""
    from typing import Annotated, Optional, Union
    from outbox_inbox import outbound
    from .contracts import InvoicePaid
    from .events import Paid
    from elsewhere_PACKAGE import make

    @outbound(Paid)
    def announce(event: Paid) -> {annotation}:
        return make(event)
    """
    name = packages.context("billing", **{**BILLING, "acl": acl})
    (packages.folder / f"elsewhere_{name}.py").write_text("def make(event): ...")
    assert ids(packages) == []


def test_w010_without_annotation(packages):
    """A translator without a return annotation may produce anything, so only a warning is given."""
    acl = """
    from outbox_inbox import outbound
    from .events import Paid

    @outbound(Paid)
    def announce(event): ...
    """
    packages.context("billing", **{**BILLING, "acl": acl})
    assert ids(packages) == ["W010"]


@pytest.mark.parametrize(
    "services",
    [
        "from .contracts import InvoicePaid\ndef pay(): record(InvoicePaid(amount=1))",
        "from . import contracts\ndef pay(): record(contracts.InvoicePaid(amount=1))",
        "from .contracts import InvoicePaid as Told\ndef pay(): record(Told(amount=1))",
    ],
)
def test_e004_recorded_directly(packages, services):
    """A use case shows that it records the contract by importing it."""
    packages.context("billing", **PUBLISHES, services=services, acl="from . import services")
    assert ids(packages) == []


def test_e004_recorded_by_a_process(packages):
    """So does a process."""
    processes = """
    from outbox_inbox.processes import Process, starts
    from .contracts import InvoicePaid
    from .events import Paid

    class Billing(Process):
        @starts(Paid, by="amount")
        def start(self, event): ...
    """
    packages.context("billing", **PUBLISHES, events=EVENTS, processes=processes)
    assert ids(packages) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"services": "from .contracts import InvoicePaid"},
        {"acl": "def pay():\n    from .contracts import InvoicePaid"},
        {"acl": "class Pay:\n    def __call__(self): ..."},
    ],
)
def test_w010_not_seen(packages, sources):
    """Code that is not loaded, or that imports within functions, may produce the contract."""
    packages.context("billing", **PUBLISHES, **sources)
    assert ids(packages) == ["W010"]


def test_e004_named_in_tests_only(packages):
    """Tests and migrations that use the contract do not count."""
    test = "from ..contracts import InvoicePaid\nInvoicePaid(amount=1)"
    packages.context("billing", **PUBLISHES, tests__test_it=test)
    assert ids(packages) == ["E004"]


def test_e005_no_publisher(packages):
    """Within one project somebody has to publish what is subscribed to."""
    packages.context("shop", **SHOP)
    assert ids(packages) == ["E005"]


def test_e005_other_transport(packages):
    """With a transport to the outside the publisher may be elsewhere."""
    packages.context("shop", **SHOP)
    assert ids(packages, OUTBOX_INBOX=REMOTE) == []


def test_w001_nobody_handles(packages):
    """A subscription that nobody handles is told."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SUBSCRIBES)
    assert ids(packages) == ["W001"]


# ---------------------------------------------------------------------------------- versions


def version(number, *upcast):
    """The source of a contract in this version, with upcasters from these versions."""
    functions = "".join(
        f"""
    @upcasts(InvoicePaid, from_version={each})
    def upcast{each}(data):
        return data
    """
        for each in upcast
    )
    contracts = CONTRACTS.replace("invoice_paid", f'invoice_paid", version={number}, key="amount')
    return f"{contracts}\n    from outbox_inbox import upcasts\n{functions}"


@pytest.mark.parametrize(("upcast", "found"), [((), 1), ((1,), 1), ((2,), 1), ((1, 2), 0)])
def test_e009_gap(packages, upcast, found):
    """A contract of version 3 needs upcasters from versions 1 and 2."""
    packages.context("billing", **{**BILLING, "contracts": version(3, *upcast)})
    assert ids(packages) == ["E009"] * found


def test_e009_domain_event(packages):
    """A domain event of a later version needs its upcasters, consumed or not."""
    events = EVENTS.replace("(DomainEvent)", "(DomainEvent, version=2)")
    packages.context("billing", events=events, handlers="from . import events")
    assert ids(packages) == ["E009"]


def test_e009_late_subscriber(packages):
    """A view that began at a later version has nothing to upcast."""
    packages.context("shop", **{**SHOP, "contracts": version(3)})
    assert ids(packages, OUTBOX_INBOX=REMOTE) == []


def test_e009_gap_of_a_view(packages):
    """A view that upcasts an old version upcasts all that came after it."""
    packages.context("shop", **{**SHOP, "contracts": version(3, 1)})
    assert ids(packages, OUTBOX_INBOX=REMOTE) == ["E009"]


def test_e009_view_of_a_contract_with_a_past(packages):
    """A view has to read the old versions that its publisher in this project has sent."""
    packages.context("billing", **{**BILLING, "contracts": version(2, 1)})
    packages.context("shop", **{**SHOP, "contracts": version(2)})
    assert [(message.id, message.obj) for message in run(packages)] == [
        ("outbox_inbox.E009", "shop")
    ]


def test_e014_one_stored_name(packages):
    """Two domain events of a context cannot be stored under one name."""
    handlers = "from . import events\nfrom .events import DomainEvent\nclass Paid(DomainEvent): ..."
    packages.context("billing", events=EVENTS, handlers=handlers)
    assert ids(packages) == ["E014"]


def test_e015_unfit_field(packages):
    """A field whose type has no exact text is found before the first event is recorded."""
    events = EVENTS.replace("amount: int", "amount: object")
    packages.context("billing", events=events, handlers="from . import events")
    (message,) = run(packages)
    assert message.id == "outbox_inbox.E015"
    assert "amount" in message.msg


# --------------------------------------------------------------------------------- functions


def test_e002_not_subscribed(packages):
    """A handler of a contract that its context does not subscribe to would never run."""
    packages.context("billing", **BILLING)
    packages.context("shop", contracts=CONTRACTS, handlers=HANDLERS)
    assert ids(packages) == ["E002"]


def test_e002_foreign_domain_event(packages):
    """Another context's domain event is none of this one's business."""
    billing = packages.context("billing", events=EVENTS)
    handlers = HANDLERS.replace(".contracts", f"{billing}.events").replace("InvoicePaid", "Paid")
    packages.context("shop", handlers=handlers)
    (message,) = run(packages)
    assert (message.id, message.obj) == ("outbox_inbox.E002", "shop")
    assert "belongs to billing" in message.msg


def test_e002_homeless_domain_event(packages):
    """A domain event outside of every context can be recorded by none."""
    shared = packages.write("shared", events=EVENTS)
    handlers = HANDLERS.replace(".contracts", f"{shared}.events").replace("InvoicePaid", "Paid")
    shop = packages.context("shop", handlers=handlers)
    assert ids(packages, shop) == ["E002"]


def consumer(packages, source, **settings):
    """Install a context with one consumer and return what the checks say about it."""
    packages.context("billing", **BILLING)
    preamble = """
    from typing import Any, Sequence, TYPE_CHECKING
    from outbox_inbox import DomainEvent, Envelope, IntegrationEvent, handles, inbound, outbound
    from .contracts import InvoicePaid
    from .events import Bought, Sold

    if TYPE_CHECKING:
        from nowhere import Later
    """
    events = """
    from outbox_inbox import DomainEvent

    class Bought(DomainEvent): ...
    class Sold(DomainEvent): ...
    """
    lines = "\n".join(f"    {line}" for line in source.splitlines())
    packages.context(
        "shop",
        **{**SUBSCRIBES, "events": events, "handlers": HANDLERS},
        acl=f"{preamble}\n{lines}",
    )
    return run(packages, **settings)


@pytest.mark.parametrize(
    "source",
    [
        "@handles(Sold)\ndef f(event): ...",
        "@handles(Sold)\ndef f(event: Sold) -> None: ...",
        "@handles(Sold)\ndef f(event: 'Sold'): ...",
        "@handles(Sold)\ndef f(event: DomainEvent): ...",
        "@handles(Sold)\ndef f(event: Any): ...",
        "@handles(Sold)\ndef f(event: object): ...",
        "@handles(Sold)\ndef f(event: 'Later'): ...",
        "@handles(Sold)\ndef f(*arguments): ...",
        "@handles(Sold)\ndef f(event, *, dry=False): ...",
        "@handles(Sold)\ndef f(event, again=False): ...",
        "@handles(Sold)\n@handles(Bought)\ndef f(event: Sold | Bought): ...",
        "@handles(Sold, takes_envelope=True)\ndef f(event: Sold, envelope: Envelope): ...",
        "@handles(Sold, many=True)\ndef f(events: list[Sold]): ...",
        "@handles(Sold, many=True)\ndef f(events: list): ...",
        "@handles(Sold, many=True)\ndef f(events: Sequence[Sold]): ...",
        "@handles(Sold, Bought, many=True)\ndef f(events: list[Sold | Bought]): ...",
        "@handles(Sold, many=True, takes_envelope=True)\n"
        "def f(events: list[Sold], envelopes: list[Envelope]): ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> Sold | None: ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> list[Sold]: ...",
    ],
)
def test_e008_fits(packages, source):
    """A function that can be called with what it is marked for is fine."""
    assert consumer(packages, source) == []


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "@handles(Sold)\ndef f(): ...",
            "cannot be called with the event: too many positional arguments",
        ),
        ("@handles(Sold)\ndef f(event, envelope): ...", "missing a required argument: 'envelope'"),
        (
            "@handles(Sold, takes_envelope=True)\ndef f(event): ...",
            "cannot be called with the event and the envelope: too many",
        ),
        ("@handles(Sold)\ndef f(event, *, dry): ...", "'dry'"),
        ("@handles(Sold)\ndef f(event: Bought): ...", "annotates event as Bought; expected Sold"),
        ("@handles(Sold)\ndef f(event: list[Sold]): ...", "annotates event as list"),
        (
            "@handles(Sold, many=True)\ndef f(events: Sold): ...",
            "annotates events as Sold; expected list[Sold]",
        ),
        (
            "@handles(Sold, many=True)\ndef f(events: tuple[Sold, ...]): ...",
            "annotates events as tuple",
        ),
        (
            "@handles(Sold, many=True)\ndef f(events: list[Bought]): ...",
            "expected list[Sold]",
        ),
        (
            "@handles(Sold, Bought)\ndef f(event: Sold): ...",
            "annotates event as Sold; expected Bought",
        ),
        (
            "@handles(Sold, takes_envelope=True)\ndef f(event: Sold, envelope: dict): ...",
            "annotates envelope as dict; expected Envelope",
        ),
        ("@inbound(InvoicePaid)\ndef f(event, envelope) -> Sold: ...", "argument: 'envelope'"),
        ("@inbound(InvoicePaid)\ndef f(event) -> InvoicePaid: ...", "expected a domain event"),
        ("@inbound(InvoicePaid)\ndef f(event) -> str: ...", "returns str; expected a domain event"),
        ("@outbound(Sold)\ndef f(event) -> Bought: ...", "returns Bought; expected a contract"),
        ("@outbound(Sold)\ndef f(event) -> InvoicePaid: ...", "which is not in `publishes`"),
    ],
)
def test_e008_does_not_fit(packages, source, text):
    """A function that cannot be called with what it is marked for is told what to take."""
    (message,) = consumer(packages, source)
    assert message.id == "outbox_inbox.E008"
    assert message.msg.startswith("shop.acl.f ")
    assert text in message.msg


def test_e008_event_of_another_context(packages):
    """An inbound translator makes domain events of its own context."""
    billing = packages.context("billing", **BILLING)
    acl = f"""
    from outbox_inbox import inbound
    from {billing}.events import Paid
    from .contracts import InvoicePaid

    @inbound(InvoicePaid)
    def understand(event: InvoicePaid) -> Paid: ...
    """
    packages.context("shop", **SUBSCRIBES, acl=acl)
    (message,) = run(packages)
    assert "which belongs to billing" in message.msg


def test_e011_one_name(packages):
    """Two consumers with one name are an error, since only one of them would run."""
    found = consumer(
        packages,
        '@handles(Sold, name="shop.one")\ndef f(event): ...\n'
        '@handles(Bought, name="shop.one")\ndef g(event): ...',
    )
    assert [message.id for message in found] == ["outbox_inbox.E011"]
    assert "acl.f and" in found[0].msg


def test_w004_elsewhere(packages):
    """A marked function in a module that nobody collects is told."""
    name = packages.context("shop", events=EVENTS, reports=HANDLERS, acl="from . import events")
    source = "from .events import Paid\nfrom outbox_inbox import handles\n"
    source += "@handles(Paid)\ndef project(event): ..."
    (packages.folder / name / "reports.py").write_text(source)
    (packages.folder / name / "acl.py").write_text("from . import reports")
    (message,) = run(packages)
    assert message.id == "outbox_inbox.W004"
    assert f"{name}.reports.project is marked" in message.msg


def test_w004_upcaster_elsewhere(packages):
    """An upcaster is looked for beside its event and in the modules, and told elsewhere."""
    source = "from .events import Paid\nfrom outbox_inbox import upcasts\n"
    source += "@upcasts(Paid, from_version=1)\ndef upcast(data): ..."
    packages.context(
        "shop",
        events=EVENTS.replace("(DomainEvent)", "(DomainEvent, version=2)"),
        old=source,
        acl="from . import old",
    )
    assert ids(packages) == ["E009", "W004"]


def test_w004_missing_module(packages):
    """A module that a ContextConfig names itself should exist."""
    packages.context("shop", "modules = ['handlres']", handlers="")
    (message,) = run(packages)
    assert message.id == "outbox_inbox.W004"
    assert "names 'handlres'" in message.msg


# -------------------------------------------------------------------------------- deployment

MODELS = """
    from django.db import models

    class Invoice(models.Model): ...
"""


class ToOther:
    """Route the models of "billing" to another database."""

    def db_for_write(self, model, **_):
        return "other" if model._meta.app_label == "billing" else None


class WithoutQueues(ToOther):
    """Keep the tables of outbox_inbox away from it."""

    def allow_migrate(self, db, app_label, **_):
        return db == "default" if app_label == "outbox_inbox" else None


class WithoutTables(ToOther):
    """Keep the tables of billing away from it."""

    def allow_migrate(self, db, app_label, **_):
        return db == "default" if app_label == "billing" else None


def routed(packages, database, router):
    """Check a context with a model, under this router."""
    packages.context("billing", f"database = {database!r}", models=MODELS)
    return run(packages, DATABASE_ROUTERS=[router])


def test_e006_models_elsewhere(packages):
    """State on another database than the queues cannot be committed with the events."""
    (message,) = routed(packages, "default", ToOther())
    assert message.id == "outbox_inbox.E006"
    assert "billing.Invoice (other)" in message.msg


def test_e006_models_beside(packages):
    """State on the database of the queues is what is asked for."""
    assert routed(packages, "other", ToOther()) == []


def test_e006_unmanaged_models(packages):
    """A model that Django does not manage, such as a view of old data, may be anywhere."""
    unmanaged = MODELS.replace(": ...", ":\n        class Meta:\n            managed = False")
    packages.context("billing", models=unmanaged)
    assert run(packages, DATABASE_ROUTERS=[ToOther()]) == []


def test_e006_models_that_are_kept_away(packages):
    """Models that are written to a database where their tables are never made have none."""
    (message,) = routed(packages, "other", WithoutTables())
    assert message.id == "outbox_inbox.E006"
    assert "do not allow the tables of billing.Invoice" in message.msg


def test_e006_no_tables(packages):
    """A database that the routers keep free of the queues cannot hold them."""
    (message,) = routed(packages, "other", WithoutQueues())
    assert message.id == "outbox_inbox.E006"
    assert "do not allow the tables" in message.msg


def test_w006_foreign_key(packages):
    """A foreign key to another context's model ties the two together."""
    packages.context("billing", models=MODELS)
    packages.context(
        "shop",
        models="""
        from django.db import models

        class Basket(models.Model):
            invoice = models.ForeignKey("billing.Invoice", on_delete=models.CASCADE)
        """,
    )
    (message,) = run(packages)
    assert (message.id, message.obj) == ("outbox_inbox.W006", "shop")
    assert "shop.Basket.invoice refers to billing.Invoice" in message.msg


def test_w006_many_to_many(packages):
    """A many-to-many relation does so as well."""
    packages.context("billing", models=MODELS)
    packages.context(
        "shop",
        models="""
        from django.db import models

        class Basket(models.Model):
            invoices = models.ManyToManyField("billing.Invoice")
        """,
    )
    assert "W006" in ids(packages)


def test_w006_within_and_outside(packages):
    """Keys within a context, and to apps that are no contexts, are nobody's business."""
    packages.context(
        "shop",
        models="""
        from django.db import models

        class Basket(models.Model):
            owner = models.ForeignKey("auth.User", on_delete=models.CASCADE)
            former = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
        """,
    )
    assert ids(packages) == []


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["W002"]),
        ({"transaction_mode": "IMMEDIATE"}, ["W002"]),
        ({"init_command": "PRAGMA journal_mode=WAL"}, ["W002"]),
        ({"transaction_mode": "immediate", "init_command": "pragma journal_mode = 'wal';"}, []),
        ({"transaction_mode": "EXCLUSIVE", "init_command": "PRAGMA journal_mode=WAL"}, []),
    ],
)
def test_w002_sqlite(packages, monkeypatch, options, found):
    """SQLite needs IMMEDIATE transactions and a write-ahead log."""
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", "queues.sqlite3")
    packages.context("shop")
    assert ids(packages) == found


@pytest.mark.sqlite
def test_w002_in_memory(packages, monkeypatch):
    """A database in memory has no write-ahead log to switch on."""
    options = {"transaction_mode": "IMMEDIATE"}
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", ":memory:")
    packages.context("shop")
    assert ids(packages) == []


@pytest.mark.sqlite
def test_w002_other_databases(packages, monkeypatch):
    """A SQLite database without queues is nobody's business."""
    monkeypatch.setitem(connections["other"].settings_dict, "OPTIONS", {})
    packages.context("shop")
    assert ids(packages) == []


# ------------------------------------------------------------------------------------ Celery

CELERY = {"WAKE_UP": "celery"}
BEAT = {
    "relay": {"task": "outbox_inbox.relay_outbox", "schedule": 1},
    "dispatch": {"task": "outbox_inbox.dispatch_inbox", "schedule": 1},
}


@pytest.fixture
def celery_apps(monkeypatch):
    """The Celery apps of the process, none at first."""
    apps = []
    monkeypatch.setitem(sys.modules, "celery", SimpleNamespace())
    monkeypatch.setitem(
        sys.modules, "celery._state", SimpleNamespace(_get_active_apps=lambda: list(apps))
    )
    return apps


def celery_app(**conf):
    """Return what the checks need of a Celery app."""
    return SimpleNamespace(conf=conf, finalize=lambda auto: None)


def test_w003_no_beat(packages, celery_apps):
    """Wake-ups by Celery need the beat as their floor."""
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX=CELERY)
    assert message.id == "outbox_inbox.W003"
    assert "outbox_inbox.dispatch_inbox, outbox_inbox.relay_outbox:" in message.msg


def test_w003_no_wake_up(packages, celery_apps):
    """Without wake-ups no beat is needed: whoever polls finds everything."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"WAKE_UP": None}) == []


@pytest.mark.sqlite
def test_e013_notify_needs_postgresql(packages):
    """A database that cannot notify is told at start, with the context that lives there."""
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX={"WAKE_UP": "notify"})
    assert message.id == "outbox_inbox.E013"
    assert "the context 'shop' is on the database 'default', which is SQLite" in message.msg


@pytest.mark.postgres
def test_e013_notify_on_postgresql(packages):
    """There it works."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"WAKE_UP": "notify"}) == []


@pytest.mark.postgres
def test_e013_notify_needs_psycopg_3(packages, monkeypatch):
    """The older psycopg, which Django works with as well, has other ways to listen."""
    packages.context("shop")
    monkeypatch.setattr(notifier, "missing_driver", lambda: "it needs psycopg 3")
    (message,) = run(packages, OUTBOX_INBOX={"WAKE_UP": "notify"})
    assert message.msg == 'OUTBOX_INBOX["WAKE_UP"] is "notify", and it needs psycopg 3.'


def test_w003_entries_in_the_settings(packages, celery_apps):
    """Entries in CELERY_BEAT_SCHEDULE are entries."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX=CELERY, CELERY_BEAT_SCHEDULE=BEAT) == []


def test_w003_entries_in_the_app(packages, celery_apps):
    """Entries that the project's Celery app sets itself are entries."""
    celery_apps.append(celery_app(beat_schedule=BEAT))
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX=CELERY) == []


def test_w003_receiving(packages, celery_apps):
    """With a transport that is not local, receiving needs an entry as well."""
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX={**CELERY, **REMOTE}, CELERY_BEAT_SCHEDULE=BEAT)
    assert "no beat entry runs outbox_inbox.receive_messages:" in message.msg


@pytest.mark.parametrize("content", [["json", "pickle"], ("application/x-python-serialize",)])
def test_w005_pickle(packages, celery_apps, content):
    """Pickled content lets whoever writes to the broker run code."""
    packages.context("shop")
    assert ids(packages, CELERY_ACCEPT_CONTENT=content) == ["W005"]


def test_w005_without_contexts(packages, celery_apps):
    """A project without contexts is free to do as it likes."""
    assert ids(packages, CELERY_ACCEPT_CONTENT=["pickle"]) == []


def test_w005_in_the_app(packages, celery_apps):
    """The accepted content of the project's Celery app is seen, too."""
    celery_apps.append(celery_app(accept_content={"pickle"}))
    packages.context("shop")
    assert ids(packages) == ["W005"]


def test_w005_json(packages, celery_apps):
    """JSON is fine."""
    packages.context("shop")
    assert ids(packages, CELERY_ACCEPT_CONTENT=["json"]) == []


# ------------------------------------------------------------------------------------ settings


def test_e013_settings(packages):
    """Wrong settings are told by the check, each mistake by itself."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"BATCH_SIZE": 0, "MAX_HOPS": 0}) == ["E013", "E013"]


def test_e013_without_contexts(packages):
    """They are told in a project without contexts as well."""
    assert ids(packages, OUTBOX_INBOX={"BATCH_SIZE": 0}) == ["E013"]


@pytest.mark.parametrize("backend", ["nowhere.Bus", "decimal.Decimal"])
def test_e013_transport(packages, backend):
    """A transport that is none is told before the first message is to be published."""
    packages.context("shop")
    transports = {"TRANSPORTS": {"default": {"BACKEND": backend}}}
    (message,) = run(packages, OUTBOX_INBOX=transports)
    assert message.id == "outbox_inbox.E013"
    assert backend in message.msg


def test_e012_ids_forgotten_too_soon(packages):
    """A message that comes again after its id was forgotten would be handled twice."""
    packages.context("shop")
    entry = {"LOCATION": "redis://localhost", "OPTIONS": {"MAX_AGE": timedelta(days=30)}}
    (message,) = run(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": entry}})
    assert message.id == "outbox_inbox.E012"
    assert "redeliver a message for 30 days" in message.msg


def test_e012_ids_remembered_for_long(packages):
    """What the defaults say fits."""
    packages.context("shop")
    assert ids(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": "redis://localhost"}}) == []


def test_e013_package_that_is_not_installed(packages, monkeypatch):
    """A transport whose package is missing says which extra brings it."""
    for name in [name for name in sys.modules if name.startswith("outbox_inbox.transports.redis")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ["redis", *(name for name in sys.modules if name.startswith("redis."))]:
        monkeypatch.setitem(sys.modules, name, None)
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX={"TRANSPORTS": {"default": "rediss://localhost"}})
    assert message.id == "outbox_inbox.E013"
    assert "outbox_inbox[redis]" in message.msg


def test_e013_unknown_label(packages):
    """An override of a context that is not there has no effect, and is told."""
    packages.context("shop")
    (message,) = run(packages, OUTBOX_INBOX={"CONTEXTS": {"shopp": {"database": "other"}}})
    assert message.id == "outbox_inbox.E013"
    assert "did you mean 'shop'?" in message.msg


KEYS = {"keys": {"2026-11": "a secret that is long enough to be one"}}


def signatures(**contexts):
    """Return settings with a broker and these entries of CONTEXTS."""
    return {"OUTBOX_INBOX": {**REMOTE, "CONTEXTS": contexts}}


def test_signatures_that_fit(packages):
    """One signs, the other verifies: there is nothing to be told."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SHOP)
    fits = signatures(billing={"signing": KEYS}, shop={"verifying": {"billing": KEYS}})
    assert ids(packages, **fits) == []


@pytest.mark.parametrize("entry", [{}, {"required": True}, {"keys": {}}], ids=str)
def test_signatures_are_required_without_keys(packages, entry):
    """Everything from that source would be quarantined."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SHOP)
    (found,) = run(packages, **signatures(shop={"verifying": {"billing": entry}}))
    assert (found.id, found.obj) == ("outbox_inbox.E017", "shop")
    assert "requires signatures, but it has no keys" in found.msg


def test_a_source_to_be_verified_that_nothing_comes_from(packages):
    """A misspelt label would leave the messages unverified."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SHOP)
    (found,) = run(packages, **signatures(shop={"verifying": {"biling": KEYS}}))
    assert (found.id, found.obj) == ("outbox_inbox.E017", "shop")
    assert "did you mean 'billing'?" in found.msg


@pytest.mark.parametrize(
    ("label", "entry"),
    [("billing", {"signing": KEYS}), ("shop", {"verifying": {"billing": KEYS}})],
)
def test_signatures_on_a_transport_that_makes_none(packages, label, entry):
    """``local://`` neither signs nor verifies."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SHOP)
    (found,) = run(packages, OUTBOX_INBOX={"CONTEXTS": {label: entry}})
    assert (found.id, found.obj) == ("outbox_inbox.W008", label)
