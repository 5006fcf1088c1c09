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
from outbox_inbox.queues.contents import conflict_between, contents_of
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


TEXTS = {"payload": '{"n":"å"}', "headers": '{"who":"ann"}'}


def texts(message):
    """Return payload and headers as they are stored now."""
    message.refresh_from_db()
    return {"payload": message.payload, "headers": message.headers}


def test_a_payload_is_kept_for_the_retention():
    """What a message said goes with its deliveries; its row stays, to recognise a duplicate."""
    message = rows.inbox_message(received_at=ago(9), **TEXTS)
    rows.delivery(message, state="done", finished_at=ago(8))
    prune()
    assert texts(message) == {"payload": "", "headers": "{}"}


def test_the_payload_of_a_message_without_deliveries_goes_too():
    """No consumer wants it, and no delivery is left to say that it is over."""
    message = rows.inbox_message(received_at=ago(9), **TEXTS)
    prune()
    assert texts(message) == {"payload": "", "headers": "{}"}


@pytest.mark.parametrize(
    ("received", "delivery"),
    [
        (6, None),
        (20, {"state": "done", "finished_at": ago(6)}),
        (4000, {"state": "dead", "finished_at": ago(4000), "holds": True}),
        (4000, {"state": "waiting"}),
        (4000, {"state": "ready"}),
    ],
    ids=["young", "just done", "dead", "waiting", "ready"],
)
def test_a_payload_that_may_be_needed_is_kept(received, delivery):
    """A message that is not handled yet, or was handled a moment ago, however old it is."""
    message = rows.inbox_message(received_at=ago(received), **TEXTS)
    if delivery is not None:
        rows.delivery(message, **delivery)
    prune()
    assert texts(message) == TEXTS


def test_a_dry_run_empties_nothing_and_counts_the_payloads():
    """As it does with rows."""
    message = rows.inbox_message(received_at=ago(9), **TEXTS)
    assert sum(each.payloads for each in prune(dry_run=True)) == 1
    assert texts(message) == TEXTS


def test_an_emptied_message_is_not_emptied_again():
    """It would be compared by the digest of nothing."""
    message = rows.inbox_message(received_at=ago(9), **TEXTS)
    prune()
    message.refresh_from_db()
    before = message.digest, message.emptied_at
    assert sum(each.total for each in prune()) == 0
    message.refresh_from_db()
    assert (message.digest, message.emptied_at) == before


def test_an_emptied_message_is_recognised_by_its_digest():
    """It is that of the texts, whatever tracing adds to the headers."""
    given = {**TEXTS, "headers": '{"who":"ann","traceparent":"00-a-b-01"}'}
    message = rows.inbox_message(received_at=ago(9), **given)
    prune()
    message.refresh_from_db()
    known = contents_of(message)._replace(digest=message.digest)
    said = known._replace(digest=None, **TEXTS)
    assert conflict_between(said, known) == ""
    assert conflict_between(said._replace(payload="{}"), known).endswith("another payload")
    assert conflict_between(said._replace(headers="{}"), known).endswith("other headers")


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
