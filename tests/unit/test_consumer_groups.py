"""Which functions of a context are one consumer, and in which order it calls them."""

from zlib import crc32

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from tests.support.checked import CONTRACTS, EVENTS, SUBSCRIBES

PREAMBLE = """
    from outbox_inbox import handles, inbound, outbound
    from .contracts import InvoicePaid
    from .events import Paid, Refunded
"""
REFUNDED = f"""{EVENTS}
    class Refunded(DomainEvent): ...
"""


@pytest.fixture
def billing(packages):
    """Install a context of these modules and return it."""

    def install(declares="subscribes = [InvoicePaid]", **modules):
        written = {name: f"{PREAMBLE}{text}" for name, text in modules.items()}
        packages.context(
            "billing", **{**SUBSCRIBES, "declares": declares, "events": REFUNDED}, **written
        )
        packages.install()
        return get_context("billing")

    return install


def functions(consumer):
    """Return the names of a consumer's functions, in the order in which they are called."""
    return [each.name for each in consumer.functions]


TRANSLATORS = """
    @outbound(Refunded)
    def tell_of_refund(event): ...

    @inbound(InvoicePaid)
    def understand(event): ...

    @outbound(Paid)
    def announce(event): ...
"""


def test_the_translators_of_one_direction_are_one_consumer(billing):
    """Of outbound and of inbound translators there is one consumer each."""
    assert {name: functions(each) for name, each in billing(acl=TRANSLATORS).consumers.items()} == {
        "billing.outbound": ["billing.acl.tell_of_refund", "billing.acl.announce"],
        "billing.inbound": ["billing.acl.understand"],
    }


def test_a_consumer_has_the_events_of_all_its_functions(billing):
    """They are listed in the order of the functions."""
    consumer = billing(acl=TRANSLATORS).consumers["billing.outbound"]
    assert list(consumer.events) == ["billing.Refunded", "billing.Paid"]


def test_translators_of_several_modules_are_one_consumer(billing):
    """They are called in the order of ``modules``, and of definition within a module."""
    late = """
    @outbound(Paid)
    def z(event): ...

    @outbound(Paid)
    def b(event): ...
    """
    early = """
    @outbound(Paid)
    def a(event): ...
    """
    found = billing("modules = ['late', 'early']", early=early, late=late)
    (consumer,) = found.all_consumers
    assert functions(consumer) == ["billing.late.z", "billing.late.b", "billing.early.a"]


GROUPED = """
    @handles(Paid, consumer="money")
    def book(event): ...

    @handles(Paid)
    def thank(event): ...

    @handles(Refunded, InvoicePaid, consumer="money")
    def give_back(event): ...

    @handles(Paid, consumer="money")
    def count(event): ...
"""


def test_handlers_of_one_consumer(billing):
    """``consumer=`` puts handlers together; the others stay consumers of their own."""
    found = billing(handlers=GROUPED)
    assert {name: functions(each) for name, each in found.consumers.items()} == {
        "billing.money": [
            "billing.handlers.book", "billing.handlers.give_back", "billing.handlers.count",
        ],
        "billing.handlers.thank": ["billing.handlers.thank"],
    }  # fmt: skip


def test_a_message_is_delivered_once_to_a_consumer(billing):
    """Two functions of one event are one of its consumers."""
    found = billing(handlers=GROUPED).consumers_of("billing.Paid")
    assert [each.name for each in found] == ["billing.money", "billing.handlers.thank"]


@pytest.mark.parametrize(
    ("type_name", "expected"),
    [
        ("billing.Paid", ["billing.handlers.book", "billing.handlers.count"]),
        ("billing.Refunded", ["billing.handlers.give_back"]),
        ("billing.invoice_paid", ["billing.handlers.give_back"]),
        ("billing.Unheard", []),
    ],
)
def test_functions_of_a_type(billing, type_name, expected):
    """A message is given to the functions that are marked for it, in the order of definition."""
    consumer = billing(handlers=GROUPED).consumers["billing.money"]
    assert [each.name for each in consumer.functions_of(type_name)] == expected


def test_hash_of_a_group(billing):
    """The hash of a group is that of its name, whichever functions belong to it."""
    consumer = billing(handlers=GROUPED).consumers["billing.money"]
    assert consumer.hash == crc32(b"billing.money")


def test_a_function_of_several_decorators_is_called_once(billing):
    """A function that is marked twice for the same consumer is one of its functions."""
    handlers = """
    @handles(Paid, consumer="money")
    @handles(Refunded, consumer="money")
    def book(event): ...
    """
    consumer = billing(handlers=handlers).consumers["billing.money"]
    assert functions(consumer) == ["billing.handlers.book"]
    assert list(consumer.events) == ["billing.Refunded", "billing.Paid"]


@pytest.mark.parametrize(
    ("decorator", "rest"), [("outbound(Paid", "outbound"), ("inbound(InvoicePaid", "inbound")]
)
def test_a_translator_apart(billing, decorator, rest):
    """``consumer=`` takes translators out of the consumer of their direction, together."""
    acl = f"""
    @{decorator})
    def first(event): ...

    @{decorator}, consumer="slow")
    def second(event): ...

    @{decorator}, consumer="slow")
    def third(event): ...
    """
    assert {name: functions(each) for name, each in billing(acl=acl).consumers.items()} == {
        f"billing.{rest}": ["billing.acl.first"],
        "billing.slow": ["billing.acl.second", "billing.acl.third"],
    }


def test_a_consumer_that_takes_the_envelope(billing):
    """It is enough that one function takes it; each function is called with what it takes."""
    handlers = """
    @handles(Paid, consumer="money")
    def book(event): ...

    @handles(Paid, consumer="money", takes_envelope=True)
    def log(event, envelope): ...
    """
    consumer = billing(handlers=handlers).consumers["billing.money"]
    assert consumer.takes_envelope
    assert [each.takes_envelope for each in consumer.functions] == [False, True]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ('transaction="batch"', "", ("batch", "park", None)),
        ("many=True", 'transaction="batch"', ("list", "park", None)),
        ('on_dead="skip"', "max_attempts=2", ("message", "skip", None)),
        ("max_attempts=3", 'on_dead="skip"', ("message", "park", 3)),
    ],
)
def test_the_options_of_the_first_function_are_those_of_the_consumer(
    billing, first, second, expected
):
    """Where functions contradict each other, the first one decides, with all of its options."""
    handlers = f"""
    @handles(Paid, consumer="money", {first})
    def book(event): ...

    @handles(Paid, consumer="money", {second})
    def count(event): ...
    """
    consumer = billing(handlers=handlers).consumers["billing.money"]
    assert (consumer.mode, consumer.on_dead, consumer.max_attempts) == expected


LONG = "z" * 200


def test_a_long_name_of_a_group(packages):
    """The label and ``consumer=`` make a name that has to fit into its column."""
    packages.context(
        "billing", events=EVENTS, contracts=CONTRACTS,
        handlers=f"""
    from outbox_inbox import handles
    from .events import Paid

    @handles(Paid, consumer={LONG!r})
    def book(event): ...
    """,
    )  # fmt: skip
    packages.install()
    with pytest.raises(SettingsError, match="or shorten its consumer="):
        get_context("billing")


def test_a_long_name_of_a_function_of_a_group(billing):
    """The name of a function in a group is not stored, so it may be of any length."""
    acl = f"""
    @outbound(Paid)
    def {LONG}(event): ...
    """
    (consumer,) = billing(acl=acl).all_consumers
    assert functions(consumer) == [f"billing.acl.{LONG}"]
