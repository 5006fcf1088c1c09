"""Consumers that were renamed, put together or removed while deliveries of them are unfinished."""

import json
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.contexts.consumers import hash_of
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Delivery, DeliveryState, Interest, InterestKind
from outbox_inbox.operations import (
    Selection,
    UnknownConsumer,
    gone_consumers,
    listeners,
    missed_by,
    rename_consumers,
    renames,
    retire,
    retry,
)
from outbox_inbox.queues import interests
from tests.shop.events import Closed, Noted, Opened
from tests.support.commands import Result
from tests.support.movers import (
    dead,
    deliver,
    delivery_states,
    dispatch,
    entries,
    put,
    relay,
    steps,
    together,
)

pytestmark = pytest.mark.django_db(databases=["default", "other"])

NOTE, FOLLOW = "shop.handlers.note", "shop.handlers.follow"
OPENED, CLOSED = "shop.handlers.opened", "shop.handlers.closed"


def known_as(old, new, *types):
    """Have the database know a consumer by the name it had in the old code."""
    for type_name in types:
        Interest.objects.create(
            context="shop",
            kind=InterestKind.CONSUMER,
            name=old,
            type=type_name,
            schema_version=1,
            hash=hash_of(old),
            confirmed_at=timezone.now(),
        )
    rows = Delivery.objects.filter(consumer=new, message__type__in=types)
    number = hash_of(old)
    for row in rows.select_related("message"):
        row.consumer, row.partition = old, (row.message.key_hash ^ number) % 8
        row.save()


@pytest.fixture
def renamed():
    """Deliveries of `note` as the old code has left them, under another name."""
    deliver(*steps(Noted, 3))
    known_as("shop.handlers.old", NOTE, "shop.Noted")


@pytest.fixture
def regrouped():
    """Deliveries of two consumers that the new code has put together, as the old code left them."""
    deliver(*(event(order="a", number=n) for n, event in enumerate([Opened, Closed] * 3, 1)))
    known_as(OPENED, FOLLOW, "shop.Opened")
    known_as(CLOSED, FOLLOW, "shop.Closed")


def shop():
    """Return the context whose consumers are renamed."""
    return get_context("shop")


def rename(*names, **options):
    """Rename consumers of the shop."""
    *old, new = names
    return rename_consumers(shop(), old, new, **options)


def first_of(consumer):
    """Return the id of a consumer's first delivery, in a list."""
    return list(
        Delivery.objects.filter(consumer=consumer).order_by("id").values_list("pk", flat=True)[:1]
    )


# Renaming


def test_deliveries_follow_to_the_new_name(renamed):
    """They are handled by the consumer that the code has."""
    assert rename("shop.handlers.old", NOTE).moved == 3
    dispatch()
    assert entries() == [1, 2, 3]


def test_several_become_one_in_the_order_of_their_messages(regrouped):
    """The order of the key is that of recording, across the old consumers."""
    rename(OPENED, CLOSED, FOLLOW)
    dispatch()
    assert entries("follow") == [1, 2, 3, 4, 5, 6]


def test_a_failed_head_does_not_let_later_messages_pass(regrouped):
    """The second message of the key backs off: the first comes before it, the others behind it."""
    later = timezone.now() + timedelta(hours=1)
    heads = first_of(CLOSED)
    Delivery.objects.filter(consumer=CLOSED).exclude(pk__in=heads).update(state="waiting")
    Delivery.objects.filter(pk__in=heads).update(holds=True, attempts=1, due_at=later)
    rename(OPENED, CLOSED, FOLLOW)
    dispatch()
    assert entries("follow") == [1, 2, 3, 4, 5, 6]


def test_a_failed_head_still_waits_for_its_time(regrouped):
    """The first message of the key backs off: nothing of it is handled before."""
    later = timezone.now() + timedelta(hours=1)
    heads = first_of(OPENED)
    Delivery.objects.filter(consumer=OPENED).exclude(pk__in=heads).update(state="waiting")
    Delivery.objects.filter(pk__in=heads).update(holds=True, attempts=1, due_at=later)
    rename(OPENED, CLOSED, FOLLOW)
    dispatch()
    assert entries("follow") == []


def test_a_parked_key_stays_parked(regrouped):
    """The first message of the key is dead: an operator decides before anything else is handled."""
    heads = first_of(OPENED)
    Delivery.objects.filter(consumer=OPENED).exclude(pk__in=heads).update(state="waiting")
    Delivery.objects.filter(pk__in=heads).update(
        holds=True, attempts=9, state="dead", finished_at=timezone.now()
    )
    rename(OPENED, CLOSED, FOLLOW)
    dispatch()
    assert (entries("follow"), delivery_states("follow")[0]) == ([], "dead")


def test_a_dead_one_behind_older_messages_is_tried_again(regrouped):
    """It would have kept its key from the older ones, or been retried before them."""
    heads = first_of(CLOSED)
    Delivery.objects.filter(consumer=CLOSED).exclude(pk__in=heads).update(state="waiting")
    Delivery.objects.filter(pk__in=heads).update(
        holds=True, attempts=9, state="dead", finished_at=timezone.now()
    )
    rename(OPENED, CLOSED, FOLLOW)
    dispatch()
    assert entries("follow") == [1, 2, 3, 4, 5, 6]


def test_the_old_name_gets_no_more_deliveries(renamed):
    """Otherwise a message would have its effects under both names while old processes run."""
    rename("shop.handlers.old", NOTE)
    deliver(*steps(Noted, [4]))
    assert not Delivery.objects.filter(consumer="shop.handlers.old").exists()


def test_an_old_process_does_not_bring_the_old_name_back(renamed, monkeypatch):
    """It still says what its code has, and that is known to be renamed."""
    rename("shop.handlers.old", NOTE)
    own = list(interests.declared("default"))
    (old,) = [row._replace(name="shop.handlers.old") for row in own if row.name == NOTE]
    monkeypatch.setattr(interests, "declared", lambda using: [*own, old])
    interests.store_interests("default")
    deliver(*steps(Noted, [4]))
    assert not Delivery.objects.filter(consumer="shop.handlers.old").exists()


def test_a_message_that_both_names_have_is_handled_once(renamed):
    """A deployment made deliveries for both before the consumer was renamed."""
    for row in Delivery.objects.filter(consumer="shop.handlers.old").order_by("pk"):
        row.pk, row.consumer = None, NOTE
        row.save()
    done = rename("shop.handlers.old", NOTE)
    dispatch()
    assert (done.merged, entries()) == (3, [1, 2, 3])


def test_a_message_that_the_old_name_has_handled_is_not_handled_again(renamed):
    """Its delivery for the new name counts as done."""
    for row in Delivery.objects.filter(consumer="shop.handlers.old").order_by("pk"):
        row.pk, row.consumer = None, NOTE
        row.save()
    Delivery.objects.filter(consumer="shop.handlers.old").update(state=DeliveryState.DONE)
    done = rename("shop.handlers.old", NOTE)
    dispatch()
    assert (done.handled, entries()) == (3, [])


def half_handled():
    """Leave a message that one of two old consumers has handled."""
    deliver(Opened(order="a", number=1))
    known_as(OPENED, FOLLOW, "shop.Opened")
    row = Delivery.objects.get(consumer=OPENED)
    row.pk, row.consumer, row.state = None, CLOSED, DeliveryState.DONE
    row.save()
    known_as(CLOSED, FOLLOW, "shop.Opened")


def test_a_message_that_some_old_consumers_have_handled_is_not_repeated_unasked():
    """The new consumer handles messages as a whole, so an operator decides."""
    half_handled()
    with pytest.raises(OutboxInboxError, match=r"handled messages that others have not \(1\)"):
        rename(OPENED, CLOSED, FOLLOW)
    assert Delivery.objects.filter(consumer=OPENED).count() == 1


def test_a_message_that_some_old_consumers_have_handled_is_repeated_when_asked():
    """The operator knows that the effects may be there twice."""
    half_handled()
    assert rename(OPENED, CLOSED, FOLLOW, repeat=True).repeated == 1
    dispatch()
    assert entries("follow") == [1]


def test_many_deliveries_of_a_parked_key_are_renamed(monkeypatch):
    """More than one statement takes: they keep their order, and wait for the operator."""
    monkeypatch.setattr(renames, "_CHUNK", 2)
    dead(*steps(Noted, 7))
    known_as("shop.handlers.old", NOTE, "shop.Noted")
    rename("shop.handlers.old", NOTE)
    retry(Selection(context="shop"))
    dispatch()
    assert entries() == [1, 2, 3, 4, 5, 6, 7]


def test_a_project_without_time_zones_renames_and_retires(settings):
    """The times are stored as its fields take them."""
    settings.USE_TZ = False
    deliver(*steps(Noted, 2))
    known_as("shop.handlers.old", NOTE, "shop.Noted")
    known_as("shop.handlers.older", "shop.handlers.none", "shop.Noted")
    retire(shop(), ["shop.handlers.older"])
    rename("shop.handlers.old", NOTE)
    dispatch()
    assert entries() == [1, 2]


def test_a_dry_run_changes_nothing(renamed):
    """It counts what would be moved."""
    assert rename("shop.handlers.old", NOTE, dry_run=True).moved == 3
    assert Delivery.objects.filter(consumer="shop.handlers.old").count() == 3


def test_a_second_call_finds_nothing_to_do(renamed):
    """It may be repeated."""
    rename("shop.handlers.old", NOTE)
    assert rename("shop.handlers.old", NOTE).moved == 0


def test_a_new_name_that_the_code_lacks_is_refused(renamed):
    """The message suggests what was meant."""
    with pytest.raises(UnknownConsumer, match=r"did you mean 'shop\.handlers\.note'"):
        rename("shop.handlers.old", "shop.handlers.nota")


def test_an_old_name_that_the_code_still_has_is_refused(renamed):
    """Its own deliveries would be taken away."""
    with pytest.raises(UnknownConsumer, match=r"it was not renamed"):
        rename("shop.handlers.count", NOTE)


def test_an_old_name_that_never_was_is_refused(renamed):
    """The message suggests what was meant."""
    with pytest.raises(UnknownConsumer, match=r"did you mean 'shop\.handlers\.old'"):
        rename("shop.handlers.olt", NOTE)


def test_a_type_that_the_new_consumer_does_not_take_is_refused(renamed):
    """The deliveries would never be handled."""
    with pytest.raises(
        OutboxInboxError, match=r"'shop\.Noted', which 'shop\.handlers\.follow' does"
    ):
        rename("shop.handlers.old", FOLLOW)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_workers_run_while_a_consumer_is_renamed():
    """Nothing is lost, handled twice or out of order while messages keep coming."""
    orders = ["a", "b", "c", "d"]
    for order in orders:
        put(*steps(Noted, 30, order))
    relay(limit=60)
    known_as("shop.handlers.old", NOTE, "shop.Noted")

    def work():
        for _ in range(500):
            relay(limit=5)
            dispatch(limit=5)
            if entries(order=None).count(30) == len(orders):
                break

    together(lambda: rename("shop.handlers.old", NOTE), work, work)
    assert [entries(order=order) for order in orders] == [list(range(1, 31))] * len(orders)


# What is reported


def test_queue_stats_names_a_consumer_that_is_gone(renamed):
    """With what it left, and the way out."""
    out = Result("queue_stats", "--context", "shop").out
    assert "3 unfinished deliveries of shop.handlers.old, which the code does not have" in out


def test_queue_stats_names_it_for_scripts(renamed):
    """As JSON, in its context."""
    document = json.loads(Result("queue_stats", "--format", "json").out)
    (gone,) = document["contexts"]["shop"]["gone_consumers"]
    assert (gone["consumer"], gone["unfinished"]) == ("shop.handlers.old", 3)


def test_a_check_names_a_consumer_that_is_gone(renamed):
    """`check --database default`, which `migrate` runs too."""
    (message,) = run_checks(tags=["database"], databases=["default"])
    assert (message.id, "'shop.handlers.old'" in message.msg) == ("outbox_inbox.W011", True)


def test_what_was_renamed_is_not_named_any_more(renamed):
    """Its deliveries have another name."""
    rename("shop.handlers.old", NOTE)
    assert gone_consumers([shop()]) == []


def test_what_a_retired_consumer_would_have_got_is_counted(renamed):
    """It gets no more deliveries, and the messages of its types are in the inbox."""
    retire(shop(), ["shop.handlers.old"])
    deliver(*steps(Noted, [4, 5]))
    (gone,) = gone_consumers([shop()])
    assert (gone.unfinished, missed_by(shop(), gone)) == (3, 2)


def test_a_great_number_is_a_minimum(renamed, monkeypatch):
    """Counting stops at a limit, as it does for the depths of queues."""
    monkeypatch.setattr(listeners, "MOST_COUNTED", 2)
    out = Result("queue_stats", "--context", "shop").out
    assert "more than 2 unfinished deliveries of shop.handlers.old" in out


# Retiring


def test_a_retired_consumer_gets_no_more_deliveries(renamed):
    """What it left unfinished stays."""
    (done,) = retire(shop(), ["shop.handlers.old"])
    deliver(*steps(Noted, [4]))
    left = Delivery.objects.filter(consumer="shop.handlers.old").count()
    assert (done.unfinished, left) == (3, 3)


def test_what_the_code_has_cannot_be_retired():
    """It would be brought back at once."""
    interests.store_interests("default")
    with pytest.raises(
        UnknownConsumer, match=r"the code of this process has 'shop\.handlers\.note'"
    ):
        retire(shop(), [NOTE])


def test_what_never_was_cannot_be_retired(renamed):
    """The message suggests what was meant."""
    with pytest.raises(UnknownConsumer, match=r"did you mean 'shop\.handlers\.old'"):
        retire(shop(), ["shop.handlers.olt"])


# The commands


def test_the_command_renames(renamed):
    """It says what it did."""
    result = Result("rename_consumer", "--context", "shop", "shop.handlers.old", NOTE)
    assert (result.code, result.out.strip()) == (0, f"Gave 3 unfinished deliveries to {NOTE}.")


def test_the_command_answers_scripts(regrouped):
    """One JSON document, and nothing else."""
    names = (OPENED, CLOSED, FOLLOW)
    out = Result("rename_consumer", "--context", "shop", *names, "--format", "json").out
    document = json.loads(out)
    assert (document["moved"], document["old"]) == (6, [OPENED, CLOSED])


@pytest.mark.parametrize("names", [["shop.handlers.old", "nota"], ["olt", NOTE]])
def test_an_unknown_name_is_wrong_usage(renamed, names):
    """Exit code 2, with a line."""
    assert Result("rename_consumer", "--context", "shop", *names).code == 2


def test_the_command_retires(renamed):
    """It says what is left, and that a process that still runs brings it back."""
    out = Result("retire_consumer", "--context", "shop", "shop.handlers.old").out
    assert out.splitlines()[:2] == [
        "shop: shop.handlers.old gets no more messages.",
        "It leaves 3 unfinished deliveries.",
    ]


def test_only_one_type_is_retired_when_asked(regrouped):
    """A read model or consumer that takes one event less goes on with the others."""
    (done,) = retire(shop(), [OPENED], "shop.Opened")
    assert done.types == 1
