import pytest

from tests.support.checked import ACL, CONTRACTS, SHOP, both, single

pytestmark = pytest.mark.usefixtures("fit_database")


def found(packages, *fields, declared="", published=CONTRACTS, **settings):
    """Check a subscriber whose view of the contract has these fields."""
    view = "\n        ".join(fields or ["pass"])
    contracts = f"""
    from datetime import date
    from outbox_inbox import IntegrationEvent

    class InvoicePaid(IntegrationEvent, name="billing.invoice_paid"{declared}):
        {view}
    """
    return both(packages, {"contracts": published}, {"contracts": contracts}, **settings)


def test_e007_required_field_that_is_not_published(packages):
    """Every message would be refused."""
    message = single("E007", found(packages, "amount: int", "country: str"))
    assert message.obj == "shop"
    assert "country is required, and is not published" in message.msg


def test_e007_other_type(packages):
    """What is published is not read as that."""
    message = single("E007", found(packages, "amount: date"))
    assert "amount is published as int, and read as date" in message.msg


def test_e007_older_version(packages):
    """A newer message waits for newer code, for ever if there is none."""
    newer = CONTRACTS.replace('paid"', 'paid", version=2')
    acl = f"""{ACL}
    from outbox_inbox import upcasts

    @upcasts(InvoicePaid, from_version=1)
    def newer(data): return data
    """
    contracts = CONTRACTS.replace("amount: int", "amount: int")
    message = single(
        "E007", both(packages, {"contracts": newer, "acl": acl}, {"contracts": contracts})
    )
    assert "version 2 is published, and version 1 cannot read it" in message.msg


@pytest.mark.parametrize("key", ["amount", ("amount", "order")])
def test_e007_other_key(packages, key):
    """The subscriber expects an order that there is not."""
    published = CONTRACTS.replace('paid"', 'paid", key="order"') + "        order: str\n"
    fields = ["amount: int", "order: str"]
    message = single(
        "E007", found(packages, *fields, declared=f", key={key!r}", published=published)
    )
    assert "and that of the contract order" in message.msg


@pytest.mark.parametrize(
    "fields",
    [["amount: int"], ["amount: float"], [], ["amount: int", "country: str = 'SE'"]],
    ids=str,
)
def test_e007_fits(packages, fields):
    """A view has the fields that it needs, with types that read what is published."""
    assert found(packages, *fields) == []


def test_e009_newer_version(packages):
    """A view of a newer version needs upcasters from the one that is published."""
    message = single("E009", found(packages, "amount: int", declared=", version=2"))
    assert message.obj == "shop"
    assert "of version 1 cannot be read" in message.msg


TRANSLATOR = """
    from outbox_inbox import inbound
    from .contracts import InvoicePaid
    from .events import Booked

    @inbound(InvoicePaid)
    def understand(event: InvoicePaid) -> Booked | None: ...
"""
BOOKED = """
    from outbox_inbox import DomainEvent

    class Booked(DomainEvent):
        number: str = ""
"""


def translated(packages, consumer):
    """Check a subscriber that translates the contract into an event, with this consumer of it."""
    modules = {"handlers": "", "events": BOOKED, "acl": TRANSLATOR, **consumer}
    return both(packages, shop={**SHOP, **modules})


def test_w015_no_consumer(packages):
    """What is translated would be forgotten."""
    message = single("W015", translated(packages, {}))
    assert message.obj == "shop"
    assert "acl.understand returns" in message.msg
    assert "events.Booked, which no handler, translator or process" in message.msg


PROCESS = """
    from outbox_inbox.processes import Process, starts
    from .events import Booked

    class Booking(Process):
        @starts(Booked, by="number")
        def begin(self, event: Booked) -> None: ...
"""
HANDLER = """
    from outbox_inbox import handles
    from .events import Booked

    @handles(Booked)
    def book(event: Booked) -> None: ...
"""


@pytest.mark.parametrize("consumer", [{"handlers": HANDLER}, {"processes": PROCESS}], ids=list)
def test_w015_consumer(packages, consumer):
    """A handler or a process takes it."""
    assert translated(packages, consumer) == []
