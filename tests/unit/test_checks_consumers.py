import pytest

from tests.support.checked import BILLING, CONTRACTS, EVENTS, HANDLERS, SUBSCRIBES, ids, run, single

pytestmark = pytest.mark.usefixtures("fit_database")


def test_e002_not_subscribed(packages):
    """A handler of a contract that its context does not subscribe to would never run."""
    packages.context("shop", contracts=CONTRACTS, handlers=HANDLERS)
    assert ids(packages) == ["E002"]


def test_e002_foreign_domain_event(packages):
    """A handler cannot take a domain event of another context."""
    billing = packages.context("billing", events=EVENTS)
    handlers = HANDLERS.replace(".contracts", f"{billing}.events").replace("InvoicePaid", "Paid")
    packages.context("shop", handlers=handlers)
    message = single("E002", run(packages))
    assert message.obj == "shop"
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
    from typing import Any, Iterator, NewType, Sequence, TypeVar, TYPE_CHECKING
    from outbox_inbox import DomainEvent, Envelope, IntegrationEvent, handles, inbound, outbound
    from .contracts import InvoicePaid
    from .events import Bought, Sold

    EventOf = TypeVar("EventOf", bound=DomainEvent)
    BoughtOnly = TypeVar("BoughtOnly", bound=Bought)

    if TYPE_CHECKING:
        from nowhere import Later
    """
    events = """
    from outbox_inbox import DomainEvent

    class Bought(DomainEvent): ...
    class Sold(DomainEvent): ...
    """
    handlers = f"""{HANDLERS}
    from .events import Bought, Sold

    @handles(Bought, Sold)
    def sell(event): ...
    """
    lines = "\n".join(f"    {line}" for line in source.splitlines())
    packages.context(
        "shop", **{**SUBSCRIBES, "events": events, "handlers": handlers}, acl=f"{preamble}\n{lines}"
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
        "@handles(Sold)\ndef f(*events: Sold): ...",
        "@handles(Sold)\ndef f(event: EventOf): ...",
        "@handles(Sold)\ndef f(event: Sold) -> bool: ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> Sold | None: ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> DomainEvent: ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> 'Later': ...",
        "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> Sequence[Sold]: ...",
        "@outbound(Sold)\ndef f(event: Sold) -> IntegrationEvent: ...",
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
        ("@handles(Sold, many=True)\ndef f(events: list[Bought]): ...", "expected list[Sold]"),
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
        ("@outbound(Sold)\ndef f(event) -> DomainEvent: ...", "returns DomainEvent; expected"),
        (
            "@outbound(Sold)\ndef f(event: Sold) -> None: ...",
            "returns nothing; expected a contract",
        ),
        (
            "@inbound(InvoicePaid)\ndef f(event: InvoicePaid) -> None: ...",
            "returns nothing; expected a domain event",
        ),
        (
            "@handles(Sold)\ndef f(event: Sold) -> InvoicePaid: ...",
            "returns InvoicePaid, which is dropped: record() it, or mark a translator",
        ),
        ("@handles(Sold)\ndef f(event: Sold) -> list[Bought]: ...", "returns Bought, which is"),
        ("@handles(Sold)\ndef f(event: Bought, more: 'Later' = None): ...", "event as Bought"),
        ("@handles(Sold)\ndef f(event: Bought) -> 'Later': ...", "annotates event as Bought"),
        ("@inbound(InvoicePaid)\ndef f(event: 'Later') -> InvoicePaid: ...", "expected a domain"),
        ("@handles(Sold)\ndef f(*events: Bought): ...", "annotates events as Bought"),
        ("@handles(Sold)\ndef f(event: BoughtOnly): ...", "expected Sold"),
        ("@handles(Sold)\ndef f(event: NewType('Alias', Bought)): ...", "expected Sold"),
        ("@inbound(InvoicePaid)\ndef f(event) -> Iterator[Sold]: ...", "returns Iterator"),
        ("@outbound(Sold)\ndef f(event) -> InvoicePaid: ...", "which is not in `publishes`"),
    ],
)
def test_e008_does_not_fit(packages, source, text):
    """A function that cannot be called with what it is marked for is reported with what to take."""
    message = single("E008", consumer(packages, source))
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
    assert "which belongs to billing" in single("E008", run(packages)).msg


def test_e011_one_name(packages):
    """Two consumers with one name are an error, since only one of them would run."""
    found = consumer(
        packages,
        '@handles(Sold, name="shop.one")\ndef f(event): ...\n'
        '@handles(Bought, name="shop.one")\ndef g(event): ...',
    )
    assert "acl.f and" in single("E011", found).msg


@pytest.mark.parametrize(
    ("named", "translator"),
    [
        ("outbound", "@outbound(Sold)\ndef t(event): ..."),
        ("inbound", "@inbound(InvoicePaid)\ndef t(event): ..."),
        ("apart", '@outbound(Sold, consumer="apart")\ndef t(event): ...'),
    ],
)
def test_e011_handlers_named_as_translators(packages, named, translator):
    """Handlers and translators cannot be one consumer, whatever its name."""
    source = f"{translator}\n@handles(Bought, consumer={named!r})\ndef f(event): ..."
    message = single("E011", consumer(packages, source))
    assert "acl.t and " in message.msg
    assert f"'shop.{named}'" in message.msg


def test_e011_translators_of_both_directions(packages):
    """Nor can translators of both directions."""
    source = (
        '@outbound(Sold, consumer="apart")\ndef f(event): ...\n'
        '@inbound(InvoicePaid, consumer="apart")\ndef g(event): ...'
    )
    assert "'shop.apart'" in single("E011", consumer(packages, source)).msg


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ('transaction="batch"', "", "differ in transaction= or many= ('batch', 'message')"),
        ("", "many=True", "differ in transaction= or many= ('message', 'list')"),
        ('on_dead="skip"', "", "differ in on_dead= ('skip', 'park')"),
        ("max_attempts=2", "max_attempts=3", "differ in max_attempts= (2, 3)"),
    ],
)
def test_e019_options_that_differ(packages, first, second, text):
    """Functions of one consumer that ask for different options are an error, which names both."""
    source = (
        f'@handles(Sold, consumer="goods", {first})\ndef f(event): ...\n'
        f'@handles(Bought, consumer="goods", {second})\ndef g(event): ...'
    )
    message = single("E019", consumer(packages, source))
    assert text in message.msg
    assert "acl.f and " in message.msg
    assert "acl.g are one consumer, 'shop.goods'" in message.msg


def test_e019_each_option_is_reported(packages):
    """Two options that differ are two errors."""
    source = (
        '@handles(Sold, consumer="goods", on_dead="skip", max_attempts=2)\ndef f(event): ...\n'
        '@handles(Bought, consumer="goods")\ndef g(event): ...'
    )
    found = consumer(packages, source)
    assert [message.id for message in found] == ["outbox_inbox.E019"] * 2


def test_functions_of_one_consumer_that_agree(packages):
    """Functions with the same options are fine, also when one of them takes the envelope."""
    source = (
        '@handles(Sold, consumer="goods", transaction="batch", max_attempts=2)\n'
        "def f(event): ...\n"
        '@handles(Sold, Bought, consumer="goods", transaction="batch", max_attempts=2, '
        "takes_envelope=True)\ndef g(event, envelope): ..."
    )
    assert consumer(packages, source) == []


def test_e008_of_one_function_of_several(packages):
    """A function that does not fit is named, not the consumer that it belongs to."""
    source = (
        '@handles(Sold, consumer="goods")\ndef f(event): ...\n'
        '@handles(Sold, consumer="goods")\ndef g(): ...'
    )
    assert single("E008", consumer(packages, source)).msg.startswith("shop.acl.g cannot be called")


def test_e002_of_one_function_of_several(packages):
    """So is a function that takes what its context does not subscribe to."""
    handlers = HANDLERS.replace(
        "@handles(InvoicePaid)\n    def book(event): ...",
        """
    from .events import Paid

    @handles(Paid, consumer="money")
    def count(event): ...

    @handles(InvoicePaid, consumer="money")
    def book(event): ...
    """,
    )
    packages.context("shop", contracts=CONTRACTS, events=EVENTS, handlers=handlers)
    assert single("E002", run(packages)).msg.startswith("shop.handlers.book takes the contract")


def test_w004_of_a_function_in_no_group(packages):
    """A function elsewhere is not in the group whose name it has, and is reported."""
    here = HANDLERS.replace("@handles(InvoicePaid)", '@handles(Paid, consumer="money")')
    here = here.replace(".contracts import InvoicePaid", ".events import Paid")
    reports = here.replace("def book", "def count")
    handlers = f"    from . import reports{here}"
    name = packages.context("shop", events=EVENTS, reports=reports, handlers=handlers)
    assert f"{name}.reports.count is marked" in single("W004", run(packages)).msg


def test_w004_elsewhere(packages):
    """A marked function in a module that the context does not search is reported."""
    handlers = HANDLERS.replace(".contracts", ".events").replace("InvoicePaid", "Paid")
    name = packages.context("shop", events=EVENTS, reports=handlers, acl="from . import reports")
    assert f"{name}.reports.book is marked" in single("W004", run(packages)).msg


def test_w004_of_a_process(packages):
    """So is a process; but not one that belongs to a context nested in this one."""
    process = """
    from outbox_inbox.processes import Process, starts
    from {events} import Paid

    class Billing(Process):
        @starts(Paid, by="amount")
        def start(self, event): ...
    """
    nested = """
    from outbox_inbox.contexts import ContextConfig

    class Config(ContextConfig):
        name = "PACKAGE.inner"
    """
    name = packages.context(
        "shop",
        events=EVENTS,
        reports=process.format(events=".events"),
        acl="from . import reports",
        inner__apps=nested,
        inner__events=EVENTS,
        inner__processes=process.format(events=".events"),
    )
    (packages.folder / name / "inner" / "__init__.py").touch()
    found = run(packages, name, f"{name}.inner")
    assert f"{name}.reports.Billing is a process" in single("W004", found).msg


def test_w004_upcaster_elsewhere(packages):
    """An upcaster is looked for beside its event and in the modules, and reported elsewhere."""
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
    assert "names 'handlres'" in single("W004", run(packages)).msg
