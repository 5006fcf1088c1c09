"""Several functions of one consumer: called in their order, in one transaction, all or none."""

from contextlib import suppress
from dataclasses import replace

import pytest
from django.core.checks import run_checks
from django.db import DatabaseError, OperationalError, connection, transaction

from outbox_inbox import record
from outbox_inbox.events.marks import ATTRIBUTE, mark_of
from outbox_inbox.models import Delivery, DeliveryAttempt, InboxMessage, OutboxMessage
from outbox_inbox.signals import delivery_failed
from outbox_inbox.testing import drain
from tests.farm import acl, contracts
from tests.farm.events import Reaped, Sown, Watered
from tests.integration.test_mysql import Rival
from tests.market.events import Expected, Offered, Promised
from tests.support.commands import Result
from tests.support.handling import numbers
from tests.support.movers import (
    Broken,
    come_due,
    deliver,
    dispatch,
    entries,
    failing,
    heard,
    raising,
    steps,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed", "border")

GROUPS = {
    "message": (Expected, "market.stock", "watch", ("stock", "watch")),
    "batch": (Sown, "farm.ledger", "audit", ("ledger", "audit")),
    "list": (contracts.Sown, "market.board", "tally", ("board", "tally")),
}
each_group = pytest.mark.parametrize(
    ("event", "consumer", "second", "effects"), GROUPS.values(), ids=GROUPS
)


def deliveries(consumer, **which):
    """Return the deliveries of a consumer, in order."""
    return list(Delivery.objects.filter(consumer=consumer, **which).order_by("id"))


def handle():
    """Dispatch in both contexts."""
    dispatch("farm")
    dispatch("market")


def published():
    """Return types and numbers of the contracts that the farm has recorded, in order."""
    rows = OutboxMessage.objects.filter(kind="integration").order_by("id")
    return [(row.type.removeprefix("farm."), int(row.payload[10:12])) for row in rows]


def called(*names):
    """Return a list of calls, and parts that note them there."""
    calls = []
    parts = {
        name: lambda events, *_, name=name: calls.append((name, numbers(events))) for name in names
    }
    return calls, playing(**parts)


def test_contexts_with_grouped_functions_have_no_findings():
    """The checks have nothing to say about functions that are one consumer and agree."""
    found = run_checks(tags=["outbox_inbox"])
    assert [each for each in found if each.obj in ("farm", "market")] == []


def test_show_contexts_lists_the_functions_of_a_consumer():
    """In the order in which they are called, below the line of the consumer."""
    lines = Result("show_contexts").out.splitlines()
    place = lines.index("  handler farm.ledger (batch) <- farm.Sown, farm.Reaped, farm.Watered")
    names = ("book_sown", "audit", "book")
    assert lines[place + 1] == f"    calls {', '.join(f'tests.farm.handlers.{n}' for n in names)}"


def test_show_contexts_lists_no_function_that_the_name_of_its_consumer_tells():
    """A handler by itself is one line."""
    lines = Result("show_contexts").out.splitlines()
    place = lines.index("  handler shop.handlers.note (message) <- shop.Noted")
    assert lines[place + 1].startswith("  handler ")


@each_group
def test_a_consumer_of_several_functions_has_one_delivery(event, consumer, second, effects):
    """A message is delivered to it once, whatever number of functions take it."""
    deliver(event(order="a", number=10))
    assert len(deliveries(consumer)) == 1


@each_group
def test_all_functions_of_a_message_are_called_once(event, consumer, second, effects):
    """Each of them has its effect."""
    deliver(*steps(event, [10, 20]))
    handle()
    assert [entries(name) for name in effects] == [[10, 20], [10, 20]]


@each_group
def test_a_failed_function_undoes_the_effects_of_an_earlier_one(event, consumer, second, effects):
    """The delivery has failed once, and no function has an effect."""
    deliver(event(order="a", number=10))
    with playing(**{second: failing(10)}):
        handle()
    assert [entries(name) for name in effects] == [[], []]
    assert [each.attempts for each in deliveries(consumer)] == [1]


@each_group
def test_a_retry_calls_all_functions_again(event, consumer, second, effects):
    """So all of them have their effect, once."""
    deliver(event(order="a", number=10))
    with playing(**{second: failing(10)}):
        handle()
    come_due()
    handle()
    assert [entries(name) for name in effects] == [[10], [10]]


@each_group
def test_a_failed_function_blocks_its_key_and_no_other(event, consumer, second, effects):
    """The later messages of its key wait, for all functions; those of other keys are handled."""
    deliver(*steps(event, [10, 20]), *steps(event, [10, 20], order="b"))
    with playing(**{second: failing(10)}):
        handle()
    assert [entries(name, "a") for name in effects] == [[], []]
    assert [entries(name, "b") for name in effects] == [[10, 20], [10, 20]]


def test_events_of_one_consumer_keep_their_order():
    """If the function of the first event fails, that of the second one waits."""
    deliver(Promised(order="a", number=10), Offered(order="a", number=20))
    with playing(stock=failing(10)):
        handle()
    assert entries("stock") == []
    come_due()
    handle()
    assert entries("stock") == [10, 20]


def test_functions_are_called_in_the_order_of_definition():
    """Those of one event, before any of the next event."""
    calls, noting = called("book_sown", "audit", "book")
    deliver(Sown(order="a", number=10), Reaped(order="a", number=20), Watered(order="a", number=30))
    with noting:
        handle()
    assert calls == [
        ("book_sown", [10]), ("audit", [10]), ("audit", [20]), ("book", [20]), ("book", [30]),
    ]  # fmt: skip


def test_the_deliveries_of_a_key_are_in_one_partition():
    """That of the hash of the consumer's name, whatever the event."""
    deliver(Sown(order="a", number=10), Reaped(order="a", number=20), Watered(order="a", number=30))
    assert len({each.partition for each in deliveries("farm.ledger")}) == 1


def test_attempts_are_those_of_the_consumer():
    """It does not matter which of its functions has failed."""
    deliver(Promised(order="a", number=10))
    with playing(hint=failing(10)):
        handle()
    come_due()
    with playing(hint_again=failing(10)):
        handle()
    assert [(each.state, each.attempts) for each in deliveries("market.hints")] == [("dead", 2)]


def test_a_dead_message_is_passed_as_the_consumer_says():
    """With on_dead="skip", the functions get the next message of the key."""
    deliver(*steps(Promised, [10, 20]))
    for _ in range(2):
        with playing(hint_again=failing(10)):
            handle()
        come_due()
    handle()
    assert [each.state for each in deliveries("market.hints")] == ["dead", "done"]
    assert entries("hint") == [20, 20]


# Lists


def test_a_list_is_divided_among_the_functions(one):
    """Each gets its events at once, where the order of a key allows it."""
    calls, noting = called("show", "tally", "show_offers")
    for key in "abc":
        deliver(
            *(cls(order=key, number=n) for cls, n in ((contracts.Sown, 10), (contracts.Reaped, 20)))
        )
    with noting:
        handle()
    assert calls == [("show", [10, 10, 10]), ("tally", [10, 10, 10]), ("show_offers", [20, 20, 20])]


def test_no_function_gets_a_message_before_all_had_the_earlier_one():
    """A later message of a key waits for the next call, if an earlier one goes further first."""
    calls, noting = called("show", "tally", "show_offers")
    kinds = (contracts.Sown, contracts.Watered, contracts.Reaped, contracts.Priced, contracts.Sown)
    deliver(*(cls(order="a", number=10 * place) for place, cls in enumerate(kinds, 1)))
    with noting:
        handle()
    assert calls == [
        ("show", [10]), ("tally", [10]), ("show", [20]), ("show_offers", [30, 40]),
        ("show", [50]), ("tally", [50]),
    ]  # fmt: skip


def test_a_function_gets_the_envelopes_of_its_events(one):
    """Not those of the events that other functions of the list get."""
    found = []
    kinds = (contracts.Watered, contracts.Sown, contracts.Reaped, contracts.Sown)
    sent = [
        deliver(cls(order=f"field {place}", number=place))[0] for place, cls in enumerate(kinds)
    ]
    with playing(tally=lambda events, envelopes: found.extend(zip(events, envelopes, strict=True))):
        handle()
    assert [(event.number, envelope.id) for event, envelope in found] == [
        (1, sent[1].id), (3, sent[3].id),
    ]  # fmt: skip


def test_what_a_function_records_has_the_last_of_its_own_events_as_cause(one):
    """The messages of the list that other functions get did not lead to it."""
    sown, _ = deliver(contracts.Sown(order="a", number=10), contracts.Reaped(order="b", number=20))
    with playing(tally=lambda *_: record(Promised(order="a", number=10))):
        handle()
    assert OutboxMessage.objects.get(type="market.Promised").causation_id == sown.id


# Translators


def test_the_contracts_of_one_event_are_stored_in_the_order_of_the_functions():
    """Whether one of them makes several, or none."""
    deliver(Reaped(order="a", number=10), Reaped(order="a", number=20))
    handle()
    expected = [("reaped", 10), ("priced", 11), ("reaped", 20), ("priced", 21)]
    assert published() == expected


def test_a_failed_translator_undoes_what_an_earlier_one_has_made():
    """Of the contracts of one event all are published, or none."""
    deliver(Reaped(order="a", number=10))
    with playing(announce_price=failing(10)):
        handle()
    assert published() == []
    come_due()
    handle()
    assert published() == [("reaped", 10), ("priced", 11)]


def test_a_failed_translator_keeps_the_later_contracts_of_its_key_back():
    """They leave in the order of the events, although other functions make them."""
    deliver(Sown(order="a", number=10), Watered(order="a", number=20))
    with playing(announce_sown=failing(10)):
        handle()
    assert published() == []
    come_due()
    handle()
    assert published() == [("sown", 10), ("watered", 20)]


def test_a_failed_inbound_translator_keeps_the_later_events_of_its_key_back():
    """They come in the order of the contracts, although other functions make them."""
    deliver(contracts.Sown(order="a", number=10), contracts.Watered(order="a", number=20))
    with playing(expect=failing(10)):
        handle()
    own = InboxMessage.objects.filter(source="market").order_by("id")
    assert not own.exists()
    come_due()
    handle()
    assert [row.type for row in own] == ["market.Expected", "market.Promised"]


def test_a_translator_apart_has_a_pace_of_its_own(monkeypatch, settings):
    """With ``consumer=`` it does not wait for the others, nor they for it."""
    apart = replace(mark_of(acl.announce_watered), consumer="apart")
    monkeypatch.setattr(acl.announce_watered, ATTRIBUTE, apart)
    settings.OUTBOX_INBOX = {}
    deliver(Sown(order="a", number=10), Watered(order="a", number=20))
    with playing(announce_sown=failing(10)):
        handle()
    assert published() == [("watered", 20)]


# Errors


@pytest.mark.parametrize(
    ("event", "function"),
    [
        (Reaped(order="a", number=10), "announce_price"),
        (Reaped(order="a", number=10), "announce_reaped"),
        (contracts.Sown(order="a", number=10), "expect"),
    ],
)
def test_an_error_names_the_function_that_raised_it(event, function):
    """The consumer has several, so the stored line, the traceback and the signal say which."""
    deliver(event)
    with playing(**{function: raising(Broken("not now"))}), heard(delivery_failed) as told:
        handle()
    (attempt,) = DeliveryAttempt.objects.all()
    context = "farm" if function.startswith("announce") else "market"
    note = f"raised by the function {context}.acl.{function}"
    assert attempt.error == f"Broken: not now ({note})"
    assert attempt.traceback.endswith(f"Broken: not now\n{note}\n")
    assert [each["error"] for each in told] == [attempt.error]


def test_an_error_raised_again_names_the_function_that_raised_it_last():
    """Also one object of an exception that several functions raise."""
    error = Broken("not now")
    deliver(Reaped(order="a", number=10))
    for function in ("announce_reaped", "announce_price"):
        with playing(**{function: raising(error)}):
            handle()
        come_due()
    lines = DeliveryAttempt.objects.order_by("number").values_list("error", flat=True)
    assert [line.rpartition(".")[2] for line in lines] == ["announce_reaped)", "announce_price)"]


def test_an_error_that_lets_nothing_be_set_is_stored_all_the_same():
    """The failure is that of the function, not that of the note."""

    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    deliver(Reaped(order="a", number=10))
    with playing(announce_price=raising(Frozen("not now"))):
        handle()
    assert DeliveryAttempt.objects.get().error == "Frozen: not now"


def test_a_translator_that_returns_something_else_is_named():
    """The error says which function of the consumer it was."""
    deliver(Sown(order="a", number=10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contracts, "Sown", Promised)
        handle()
    (attempt,) = DeliveryAttempt.objects.all()
    assert "translator farm.acl.announce_sown returned Promised" in attempt.error


def test_a_function_that_spoils_the_transaction_is_named():
    """Not the one after it, whose queries fail therefore."""

    def swallow(*_):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nonsense")
        except DatabaseError:
            transaction.set_rollback(True)

    deliver(Expected(order="a", number=10))
    with playing(stock=swallow):
        handle()
    (attempt,) = DeliveryAttempt.objects.all()
    assert attempt.error.startswith("HandlerError: market.handlers.stock left its transaction")


@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_deadlock_that_one_function_swallows_undoes_them_all():
    """The database has undone what came before it, and what comes after it must not stay."""
    deliver(Sown(order="a", number=10))
    with Rival() as rival:

        def swallow(event):
            with suppress(OperationalError):
                rival.meet()

        with playing(book_sown=swallow):
            handle()
            handle()
    assert (entries("ledger"), entries("audit")) == ([10], [10])
    assert not DeliveryAttempt.objects.exists()


def test_everything_is_handled_in_the_end():
    """All functions of both contexts, from the first event to the last effect."""
    deliver(*(cls(order="a", number=10 * n) for n, cls in enumerate((Sown, Watered, Reaped), 1)))
    drain()
    assert entries("stock") == entries("board") == [10, 20, 30, 31]
