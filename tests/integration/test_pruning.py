"""Pruning: the age of each sort of row, and where a walk over a table ends."""

from datetime import timedelta

import pytest
from django.utils import timezone

from outbox_inbox.contexts import contexts
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    OutboxMessage,
    ProcessState,
    QuarantinedMessage,
)
from outbox_inbox.operations import prune
from tests.support import rows

pytestmark = pytest.mark.django_db(databases=["default", "other"])

DAY = timedelta(days=1)


def ago(days):
    """Return a time some days ago."""
    return timezone.now() - days * DAY


def process(created, finished, **given):
    """Make an instance of a process that began and ended so many days ago."""
    end = None if finished is None else ago(finished)
    return rows.process(
        context="shop", key=str(created), created_at=ago(created), finished_at=end, **given
    )


def left(model):
    """Return the primary keys that a model still has."""
    return set(model.objects.values_list("pk", flat=True))


# The age of a row


def test_a_finished_process_is_kept_for_the_retention():
    """From its end on, however long it has run before."""
    kept, gone = process(90, 1), process(91, 8)
    prune()
    assert left(ProcessState) == {kept.pk}
    assert gone.pk != kept.pk


def test_a_process_that_has_not_finished_is_kept_for_ever():
    """However old it is."""
    process(4000, None)
    prune()
    assert ProcessState.objects.count() == 1


def test_a_delivery_is_kept_for_the_retention():
    """From its end on, however long ago its message was received."""
    message = rows.inbox_message(received_at=ago(20))
    kept = rows.delivery(message, state="done", finished_at=ago(1))
    rows.delivery(message, consumer="other", state="done", finished_at=ago(8))
    prune()
    assert left(Delivery) == {kept.pk}


def test_an_id_is_remembered_while_a_delivery_of_its_message_is_kept():
    """A message that comes again would otherwise be delivered again to the other consumers."""
    message = rows.inbox_message(received_at=ago(100))
    rows.delivery(message, state="done", finished_at=ago(1))
    prune()
    assert left(InboxMessage) == {message.pk}


@pytest.mark.parametrize("state", ["pending", "waiting", "dead"])
def test_a_message_that_was_not_sent_is_kept_for_ever(state):
    """It is still to be sent, or an operator decides on it; some such rows have an end."""
    rows.outbox_message(state=state, recorded_at=ago(4000), finished_at=ago(4000))
    prune()
    assert OutboxMessage.objects.count() == 1


# Where a walk ends


def test_a_young_row_among_old_ones_does_not_end_the_walk():
    """Ids do not grow quite with age, so the old rows around it are removed."""
    old = {"state": "sent", "recorded_at": ago(9), "finished_at": ago(9)}
    rows.outbox_message(**old)
    young = rows.outbox_message(state="sent", finished_at=ago(0))
    rows.outbox_message(**old)
    prune()
    assert left(OutboxMessage) == {young.pk}


@pytest.mark.parametrize("dry_run", [True, False])
def test_prune_stops_between_two_transactions_when_it_is_asked_to(monkeypatch, dry_run):
    """What it has removed by then is counted, and the rest is left to the next call."""
    monkeypatch.setattr("outbox_inbox.operations.pruning._CHUNK", 1)
    for _ in range(3):
        rows.outbox_message(state="sent", recorded_at=ago(9), finished_at=ago(9))
    answers = iter([False])
    found = prune(stop=lambda: next(answers, True), dry_run=dry_run)
    assert (sum(each.total for each in found), OutboxMessage.objects.count()) == (
        1,
        3 - (not dry_run),
    )


def test_each_context_is_told_what_went_of_its_own():
    """Contexts of one database are pruned together, and counted apart."""
    for context in ("shop", "shop", "depot"):
        rows.outbox_message(context=context, state="sent", recorded_at=ago(9), finished_at=ago(9))
    found = {each.context: each.outbox for each in prune() if each.outbox}
    assert found == {"shop": 2, "depot": 1}
    assert len(contexts()) > len(found)


def test_a_dry_run_counts_processes_and_quarantined_messages_without_removing_them():
    """As it does with messages and deliveries."""
    process(90, 8)
    rows.quarantined(context="depot", state="discarded", received_at=ago(9), finished_at=ago(9))
    assert sum(each.total for each in prune(dry_run=True)) == 2
    assert (ProcessState.objects.count(), QuarantinedMessage.objects.count()) == (1, 1)


@pytest.mark.parametrize("age", [timedelta.max, -DAY])
def test_an_age_outside_of_the_calendar_is_refused(age):
    """The error names the argument, and nothing is removed."""
    with pytest.raises(
        ValueError, match=r"older_than=.*; expected a duration from 0 to 36500 days"
    ):
        prune(older_than=age)
