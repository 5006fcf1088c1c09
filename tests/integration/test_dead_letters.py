"""What operators do with messages that failed: retry and discard."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from outbox_inbox import OutboxInboxError
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.operations import (
    Selection,
    dead_letters,
    discard,
    discard_rows,
    retry,
    retry_rows,
)
from outbox_inbox.testing import drain
from tests.shop.events import Checked, Counted, Loose, Noted, Skipped
from tests.support.movers import (
    dead,
    deliver,
    delivery_states,
    dispatch,
    entries,
    fail_for_good,
    fail_for_now,
    put,
    relay,
    steps,
)
from tests.support.script import playing

pytestmark = pytest.mark.django_db(databases=["default", "other"])


# Retry


def test_a_retried_head_is_handled_first_then_its_followers():
    """After the cause is gone, retry brings the whole key through, in order."""
    dead(*steps(Noted, 3))
    report = retry(Selection(context="shop", key="a"))
    drain()
    assert (report.outbox, report.inbox) == (0, 1)
    assert entries() == [1, 2, 3]


def test_followers_wait_until_the_retried_head_has_succeeded():
    """Retry changes the head only: its followers do not pass it."""
    dead(*steps(Noted, 2))
    retry(Selection(context="shop"))
    assert delivery_states() == ["ready", "waiting"]


def test_a_retried_delivery_has_all_its_attempts():
    """The count begins anew."""
    dead(*steps(Noted, 1))
    retry(Selection(context="shop"))
    assert Delivery.objects.get(consumer="shop.handlers.note").attempts == 0


def test_retry_takes_what_backs_off():
    """An operator need not wait for an hour's back-off once the cause is gone."""
    dead(*steps(Noted, 1), note=fail_for_now)
    report = retry(Selection(context="shop"))
    drain()
    assert report.total == 1
    assert entries() == [1]


def test_retry_leaves_scheduled_messages_alone():
    """A message for tomorrow has not failed."""
    put(*steps(Noted, 1), at=timezone.now() + timedelta(days=1))
    assert retry(Selection(context="shop")).total == 0
    assert OutboxMessage.objects.get().due_at is not None


def test_retry_counts_without_changing_on_a_dry_run():
    """A dry run says how many it would be."""
    dead(*steps(Noted, 2))
    assert retry(Selection(context="shop"), dry_run=True).total == 1
    assert delivery_states() == ["dead", "waiting"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"type": "shop.Noted"}, 2),
        ({"key": "a"}, 2),
        ({"consumer": "shop.handlers.note"}, 2),
        ({"consumer": "shop.handlers.count", "key": "a"}, 1),
        ({"queue": Queue.OUTBOX}, 0),
        ({"type": "shop.Checked"}, 0),
        ({}, 3),
    ],
)
def test_retry_takes_what_is_selected(selection, expected):
    """Type, key, consumer and queue narrow what is retried."""
    events = [*steps(Noted, 1, "a"), *steps(Noted, 1, "b"), Counted(order="a", number=1)]
    dead(*events, note=fail_for_good, count=fail_for_good)
    assert retry(Selection(context="shop", **selection)).total == expected


def test_retry_by_id_takes_all_deliveries_of_the_message():
    """Both consumers failed on one message; its id names both deliveries."""
    with playing(note=fail_for_good, witness=lambda event, envelope: fail_for_good(event)):
        (envelope,) = put(*steps(Noted, 1))
        relay()
        dispatch()
    assert retry(Selection(context="shop", id=envelope.id)).inbox == 2


def test_retry_of_another_context_changes_nothing():
    """The depot's operator does not touch the shop."""
    dead(*steps(Noted, 1))
    assert retry(Selection(context="depot")).total == 0


def test_retry_of_an_unknown_context_is_refused():
    """The error says which label was probably meant."""
    with pytest.raises(NotAContext, match="did you mean 'shop'"):
        retry(Selection(context="shpo"))


def test_a_dead_outbox_message_is_retried():
    """The relay sends it as if it had never failed, and its follower after it."""
    put(*steps(Noted, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(state="dead", holds=True, attempts=10)
    relay()
    assert sorted(OutboxMessage.objects.values_list("state", flat=True)) == ["dead", "waiting"]
    assert retry(Selection(context="shop")).outbox == 1
    drain()
    assert entries() == [1, 2]


def test_a_delivery_passed_over_is_handled_late_when_retried():
    """With on_dead="skip" no message waits for it, and retry still brings it through."""
    dead(Skipped(order="a", number=1), skip=fail_for_good)
    deliver(Skipped(order="a", number=2))
    drain()
    retry(Selection(context="shop"))
    drain()
    assert entries("skip") == [2, 1]


def test_retry_drops_what_a_live_worker_has_read_ahead():
    """A worker that comes back after an operator reads anew: its token is gone."""
    dead(*steps(Noted, 1))
    token = uuid4()
    Partition.objects.filter(context="shop", queue="inbox").update(run=token)
    retry(Selection(context="shop"))
    number = Delivery.objects.get(consumer="shop.handlers.note").partition
    assert Partition.objects.get(context="shop", queue="inbox", number=number).run is None


# Discard


def test_followers_of_a_discarded_head_go_on():
    """The dead message is given up for good, and its key is free."""
    dead(*steps(Noted, 3))
    report = discard(Selection(context="shop", key="a"), "ordered by mistake")
    drain()
    assert report.inbox == 1
    assert entries() == [2, 3]


def test_a_discarded_message_keeps_the_reason():
    """Its row says why it was discarded, and when; and the error that it died of."""
    dead(*steps(Noted, 1))
    before = Delivery.objects.get(consumer="shop.handlers.note").error
    discard(Selection(context="shop"), "  ordered by mistake ")
    found = Delivery.objects.get(consumer="shop.handlers.note")
    assert (found.state, found.holds) == ("discarded", False)
    assert found.error == f"ordered by mistake\nthe error before: {before}"
    assert found.finished_at is not None


def test_discard_takes_the_dead_only():
    """A healthy backlog is not thrown away by --all."""
    dead(*steps(Noted, 2))
    deliver(Loose(order="a", number=1))
    assert discard(Selection(context="shop"), "old").total == 1


def test_discard_by_id_takes_a_message_in_any_unfinished_state():
    """An operator who names a message means it, dead or not."""
    (envelope,) = put(*steps(Noted, 1))
    assert discard(Selection(context="shop", id=envelope.id), "a test order").outbox == 1


def test_discard_never_touches_what_is_finished():
    """A message that was sent and handled stays so."""
    (envelope,) = put(*steps(Noted, 1))
    drain()
    assert discard(Selection(context="shop", id=envelope.id), "too late").total == 0


def test_discard_never_touches_what_was_finished_before_it_had_the_lock(monkeypatch):
    """A worker was faster than the operator who had selected the message."""
    dead(*steps(Noted, 1))
    lock = dead_letters.operator_lock

    def lock_late(*arguments):
        Delivery.objects.filter(state="dead").update(state="done")
        return lock(*arguments)

    monkeypatch.setattr(dead_letters, "operator_lock", lock_late)
    assert discard(Selection(context="shop"), "too late").total == 0
    assert delivery_states() == ["done"]


def test_unfinished_messages_are_discarded_on_request(monkeypatch):
    """A whole key goes, its waiting followers before the head that blocks them."""
    monkeypatch.setattr(dead_letters, "_CHUNK", 1)
    dead(*steps(Noted, 3))
    released = []
    monkeypatch.setattr(
        dead_letters, "unblock_deliveries", lambda *given: released.append(delivery_states())
    )
    report = discard(Selection(context="shop", key="a"), "gone", unfinished=True)
    assert report.inbox == 3
    assert released == [["discarded"] * 3]


def test_discard_needs_a_reason():
    """Blank text is not a reason."""
    with pytest.raises(ValueError, match="reason"):
        discard(Selection(context="shop"), "  ")


def test_a_discarded_outbox_head_lets_its_key_go():
    """The relay goes on with the followers."""
    put(*steps(Noted, 2))
    first = OutboxMessage.objects.order_by("pk").first()
    OutboxMessage.objects.filter(pk=first.pk).update(state="dead", holds=True)
    relay()
    discard(Selection(context="shop", queue=Queue.OUTBOX), "gone")
    drain()
    assert entries() == [2]


# Rows chosen in the admin


def test_rows_of_several_contexts_are_retried_together():
    """A query set of the admin may hold rows of any contexts."""
    dead(*steps(Noted, 1))
    put(Checked(order="a", number=1))
    with playing(pick=fail_for_good):
        drain(raise_errors=False)
    assert retry_rows(Delivery.objects.all()) == 2
    drain()


def test_rows_are_discarded_in_any_unfinished_state():
    """What is ticked is meant; what is finished is left alone."""
    dead(*steps(Noted, 2))
    assert discard_rows(Delivery.objects.all(), "ticked") == 2
    assert set(delivery_states()) == {"discarded"}


def test_rows_of_another_database_are_refused(settings):
    """Row ids mean something in their own database only."""
    dead(*steps(Noted, 1))
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}
    with pytest.raises(OutboxInboxError, match="lives on 'other' now"):
        retry_rows(Delivery.objects.all())
