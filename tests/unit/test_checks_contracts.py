import pytest

from tests.support.checked import (
    ACL,
    BILLING,
    CONTRACTS,
    EVENTS,
    PUBLISHES,
    REMOTE,
    SHOP,
    SUBSCRIBES,
    both,
    ids,
    run,
    single,
)

pytestmark = pytest.mark.usefixtures("fit_database")


def publish_two(packages, contract, returned, more=""):
    """Write a context that publishes a second contract, and whose translator returns this."""
    name = contract.partition("(")[0]
    imports = f"from .contracts import InvoicePaid, {name}"
    acl = ACL.replace("from .contracts import InvoicePaid", imports)
    packages.context(
        "billing",
        f"publishes = [InvoicePaid, {name}]",
        imports=imports,
        contracts=f"{CONTRACTS}\n    class {contract}:\n        amount: int\n{more}",
        events=EVENTS,
        acl=acl.replace("InvoicePaid | None", returned),
    )


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
    """Two contexts that publish one name and version are each reported."""
    packages.context("billing", **BILLING)
    packages.context("ledger", **BILLING)
    found = [(message.id, message.obj) for message in run(packages)]
    assert [each for each in found if each[0] != "outbox_inbox.E016"] == [
        ("outbox_inbox.E003", "billing"),
        ("outbox_inbox.E003", "ledger"),
    ]


def test_e003_two_versions(packages):
    """A context may publish two versions of a contract side by side."""
    upcaster = """
    from outbox_inbox import upcasts

    @upcasts(Newer, from_version=1)
    def upcast(data):
        return data
    """
    newer = 'Newer(IntegrationEvent, name="billing.invoice_paid", version=2)'
    publish_two(packages, newer, "InvoicePaid | Newer", upcaster)
    assert ids(packages) == []


def test_e003_twice_in_one(packages):
    """Two classes of one name and version in one context are an error."""
    other = 'Other(IntegrationEvent, name="billing.invoice_paid")'
    publish_two(packages, other, "InvoicePaid | Other")
    assert ids(packages) == ["E003", "E003"]


def test_e016_a_name_of_another_context(packages):
    """A contract is named after the context that publishes it: there subscribers look for it."""
    packages.context("ledger", **BILLING)
    message = single("E016", run(packages))
    assert message.obj == "ledger"
    assert "expect it from the context 'billing'" in message.msg
    assert '"ledger.invoice_paid"' in message.hint


def test_e004_nothing_produces(packages):
    """A contract that is published and never made is an error."""
    packages.context("billing", **PUBLISHES)
    assert ids(packages) == ["E004"]


def test_e004_other_translators(packages):
    """A translator of another contract does not count."""
    packages.context(
        "billing",
        "publishes = [InvoicePaid, Other]",
        imports="from .contracts import InvoicePaid, Other",
        contracts=f'{CONTRACTS}\n    class Other(IntegrationEvent, name="billing.other"): ...',
        events=EVENTS,
        acl=ACL.replace("InvoicePaid | None", "Other").replace("InvoicePaid", "Other"),
    )
    assert "InvoicePaid" in single("E004", run(packages)).msg


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
        "from .contracts import InvoicePaid as Paid\ndef pay(): record(Paid(amount=1))",
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
    """Within one project a context has to publish what another subscribes to."""
    packages.context("shop", **SHOP)
    assert ids(packages) == ["E005"]


def test_e005_other_transport(packages):
    """With a transport to the outside the publisher may be elsewhere."""
    packages.context("shop", **SHOP)
    assert ids(packages, OUTBOX_INBOX=REMOTE) == []


def test_w001_nobody_handles(packages):
    """A subscription without a handler or translator is reported."""
    packages.context("billing", **BILLING)
    packages.context("shop", **SUBSCRIBES)
    assert ids(packages) == ["W001"]


def version(number, *upcast):
    """The source of a contract in this version, with upcasters from these versions."""
    functions = "".join(
        f"\n    @upcasts(InvoicePaid, from_version={each})\n    def upcast{each}(data): ...\n"
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
    found = both(packages, {"contracts": version(2, 1)}, {"contracts": version(2)})
    assert single("E009", found).obj == "shop"


def test_e014_one_stored_name(packages):
    """Two domain events of a context cannot be stored under one name."""
    handlers = "from . import events\nfrom .events import DomainEvent\nclass Paid(DomainEvent): ..."
    packages.context("billing", events=EVENTS, handlers=handlers)
    assert ids(packages) == ["E014"]


def test_e015_unfit_field(packages):
    """A field whose type has no exact text is found before the first event is recorded."""
    events = EVENTS.replace("amount: int", "amount: object")
    packages.context("billing", events=events, handlers="from . import events")
    assert "amount" in single("E015", run(packages)).msg
