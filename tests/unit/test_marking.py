import functools

import pytest

from outbox_inbox import DomainEvent, IntegrationEvent, handles, inbound, outbound, upcasts
from outbox_inbox.events.marks import (
    HandlesMark,
    InboundMark,
    OldVersion,
    OutboundMark,
    UpcastsMark,
    mark_of,
)


class Paid(DomainEvent, version=3):
    amount: int


class Refunded(DomainEvent):
    amount: int


class InvoicePaid(IntegrationEvent, name="billing.invoice_paid", version=2):
    amount: int


def consume(event):
    """Take an event."""
    return event


def fresh():
    """Return a function without marks."""

    def consume(event):
        return event

    return consume


def test_function_stays_itself():
    """A decorator returns the very function, which is called and tested as before."""
    function = fresh()
    assert handles(Paid)(function) is function


def test_nothing_happens_at_decoration():
    """Marking calls nothing and changes nothing but one attribute."""
    function = fresh()
    before = set(vars(function))
    outbound(Paid)(function)
    assert set(vars(function)) - before == {"__outbox_inbox__"}


def test_defaults():
    """By default a handler commits each message by itself and parks the key of a dead one."""
    assert mark_of(handles(Paid)(fresh())) == HandlesMark(
        (Paid,), "message", False, False, "park", None, None
    )


def test_every_option():
    """Each option of a handler arrives in its mark."""
    function = handles(
        InvoicePaid,
        transaction="batch",
        many=True,
        takes_envelope=True,
        on_dead="skip",
        max_attempts=3,
        name="billing.book",
    )(fresh())
    assert mark_of(function) == HandlesMark(
        (InvoicePaid,), "batch", True, True, "skip", 3, "billing.book"
    )


def test_translators():
    """A translator's mark says in which direction it works."""
    assert mark_of(outbound(Paid)(fresh())) == OutboundMark((Paid,))
    assert mark_of(inbound(InvoicePaid)(fresh())) == InboundMark((InvoicePaid,))


def test_upcaster():
    """An upcaster's mark names the version that it takes."""
    assert mark_of(upcasts(Paid, from_version=2)(fresh())) == UpcastsMark((OldVersion(Paid, 2),))


def test_several_events():
    """A function may be marked for several events at once."""
    mark = mark_of(handles(Paid, Refunded, transaction="batch")(fresh()))
    assert mark == HandlesMark((Paid, Refunded), "batch")


def test_stacked():
    """Decorators may be stacked; the one nearest to the function comes first."""
    function = handles(InvoicePaid)(handles(Paid, Refunded)(fresh()))
    assert mark_of(function) == HandlesMark((Paid, Refunded, InvoicePaid))


def test_wrapped():
    """A decorator of one's own that uses functools.wraps keeps the mark."""
    marked = handles(Paid)(fresh())

    @functools.wraps(marked)
    def timed(event):
        return marked(event)

    assert mark_of(timed) is mark_of(marked) is not None


@pytest.mark.parametrize("thing", [None, 5, "text", Paid, fresh(), object()])
def test_unmarked(thing):
    """Anything without a mark has none."""
    assert mark_of(thing) is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transaction": "mesage"}, ValueError, "'message' or 'batch'; did you mean 'message'?"),
        ({"transaction": None}, ValueError, "'message' or 'batch'"),
        ({"on_dead": "drop"}, ValueError, "on_dead='drop'; expected 'park' or 'skip'"),
        ({"many": "yes"}, TypeError, "many='yes'; expected True or False"),
        ({"takes_envelope": 1}, TypeError, "takes_envelope=1; expected True or False"),
        ({"max_attempts": 0}, ValueError, "max_attempts=0; expected at least 1"),
        ({"max_attempts": True}, TypeError, "max_attempts=True; expected a whole number"),
        ({"name": ""}, ValueError, "name=''; expected 1 to 200"),
        ({"name": "two words"}, ValueError, "name='two words'"),
        ({"name": "x" * 201}, ValueError, "expected 1 to 200"),
    ],
)
def test_wrong_options(options, error, message):
    """A wrong option is refused at once, naming what is expected."""
    with pytest.raises(error) as caught:
        handles(Paid, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("decorator", [handles, outbound, inbound])
@pytest.mark.parametrize(
    "things", [(), *((each,) for each in (consume, "Paid", Paid(amount=1), DomainEvent, int, None))]
)
def test_no_event(decorator, things):
    """A decorator without brackets, or without the class of an event in them, is refused."""
    with pytest.raises(TypeError, match="takes the class of an event, as in @"):
        decorator(*things)


def test_outbound_takes_domain_events():
    """An outbound translator starts from an event of its own context."""
    with pytest.raises(TypeError, match="@outbound translates a domain event"):
        outbound(InvoicePaid)


def test_inbound_takes_contracts():
    """An inbound translator starts from a contract."""
    with pytest.raises(TypeError, match="@inbound translates a contract"):
        inbound(Paid)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (3, "the class is version 3"),
        (4, "the class is version 3"),
        (0, "from_version=0; expected at least 1"),
    ],
)
def test_nothing_to_upcast_to(version, message):
    """The class's own version, a later one and version 0 have no upcaster."""
    with pytest.raises(ValueError, match=message):
        upcasts(Paid, from_version=version)


@pytest.mark.parametrize("thing", [lambda event: event, print, int, functools.partial(consume)])
def test_only_named_functions(thing):
    """What has no stable name of its own cannot be marked."""
    with pytest.raises(TypeError, match="marks a function with a name"):
        handles(Paid)(thing)


def test_no_coroutine():
    """An async handler would never run, so it is refused."""

    async def consume_later(event): ...

    with pytest.raises(TypeError, match="is async"):
        handles(Paid)(consume_later)


def test_no_generator():
    """A translator that yields would never run, so it is refused."""

    def announce(event):
        yield event

    with pytest.raises(TypeError, match="return a list instead of using yield"):
        outbound(Paid)(announce)


def test_marked_twice():
    """Marking a function twice for one event is a mistake."""
    with pytest.raises(ValueError, match="marked twice for Paid"):
        handles(Paid)(handles(Paid)(fresh()))
    with pytest.raises(ValueError, match="marked twice for Paid"):
        handles(Paid, Refunded, Paid)(fresh())


def test_one_role():
    """A function is a handler, a translator or an upcaster."""
    with pytest.raises(TypeError, match="not two of them"):
        handles(Paid)(outbound(Paid)(fresh()))


def test_options_agree():
    """A function marked for several events is one consumer, with one set of options."""
    with pytest.raises(ValueError, match="on_dead= must be the same"):
        handles(Refunded)(handles(Paid, on_dead="skip")(fresh()))


def test_one_name_of_a_consumer():
    """A function is not given both a name of its own and that of a group."""
    with pytest.raises(ValueError, match="both name the consumer"):
        handles(Paid, name="billing.money", consumer="money")


@pytest.mark.parametrize("decorator", [handles, outbound, inbound])
@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 201, 5, True])
def test_wrong_consumers(decorator, name):
    """A name of a consumer that cannot be stored is refused at once."""
    event = InvoicePaid if decorator is inbound else Paid
    with pytest.raises(ValueError, match=r"^consumer=.*; expected 1 to 200"):
        decorator(event, consumer=name)


@pytest.mark.parametrize("consumer", [None, "refunds"])
def test_consumers_agree(consumer):
    """A function belongs to one consumer, with all of its events."""
    with pytest.raises(ValueError, match="consumer= must be the same"):
        outbound(Refunded, consumer=consumer)(outbound(Paid, consumer="payments")(fresh()))
