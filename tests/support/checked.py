"""Two contexts that fit together, as sources of their modules, and what the checks say of contexts."""

from collections.abc import Mapping
from types import MappingProxyType

from django.core import checks
from django.core.checks import CheckMessage

from tests.support.packages import Packages

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


def run(packages: Packages, *names: str, **settings: object) -> list[CheckMessage]:
    """Install the packages and return what the checks find."""
    packages.install(*names, **settings)
    return checks.run_checks(tags=["outbox_inbox"])


def ids(packages: Packages, *names: str, **settings: object) -> list[str]:
    """Install the packages and return the ids of what the checks find, such as E001."""
    found = run(packages, *names, **settings)
    return [str(message.id).removeprefix("outbox_inbox.") for message in found]


def both(
    packages: Packages,
    billing: Mapping[str, str] = MappingProxyType({}),
    shop: Mapping[str, str] = MappingProxyType({}),
    **settings: object,
) -> list[CheckMessage]:
    """Install both contexts, with these modules instead of theirs; return what the checks find."""
    packages.context("billing", **{**BILLING, **billing})
    packages.context("shop", **{**SHOP, **shop})
    return run(packages, **settings)


def single(number: str, found: list[CheckMessage]) -> CheckMessage:
    """Return the one message that the checks have found, which has this id."""
    assert [message.id for message in found] == [f"outbox_inbox.{number}"]
    return found[0]
