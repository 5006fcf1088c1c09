"""An id that is used again: a repetition is dropped, and anything else is kept and reported."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import apps
from django.db import transaction

from outbox_inbox import ConcurrencyError, DuplicateMessage, record, signals
from outbox_inbox.models import InboxMessage, OutboxMessage, QuarantinedMessage, StoredEvent
from outbox_inbox.operations import discard, prune, release, repartition
from outbox_inbox.operations.quarantine import QuarantineSelection
from outbox_inbox.operations.selection import Selection
from outbox_inbox.queues.contents import Contents, conflict_between
from tests.depot.contracts import Sold as SeenSold
from tests.depot.events import Wanted
from tests.shop.contracts import Sold, Whispered
from tests.shop.events import Loose, Noted
from tests.support.arriving import arriving, bring, inbox, payload
from tests.support.movers import (
    entries,
    heard,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
)
from tests.support.wire import WIRE

ID = UUID(int=4711)
APART = {"CONTEXTS": {"depot": {"database": "other"}}}
STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}

pytestmark = pytest.mark.usefixtures("committed")


def forget():
    """Delete what was sent, as after RETENTION; the inbox remembers its ids for longer."""
    prune(older_than=timedelta(0))
    assert not OutboxMessage.objects.exists()


def reuse(event, number=2):
    """Record and handle the first step with an id, prune the outbox, and record another step."""
    put(event(order="a", number=1), message_id=ID)
    run_all()
    forget()
    put(event(order="a", number=number), message_id=ID)


# From outside


@pytest.fixture
def wire(settings):
    """The contexts talk over a transport that tests play."""
    settings.OUTBOX_INBOX = WIRE


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": payload(2)}, "payload"),
        ({"type": "shop.sold.v2"}, "version"),
        ({"partitionkey": "b", "subject": "b"}, "key"),
        ({"headers": '{"who":"another"}'}, "other headers"),
    ],
)
def test_a_message_that_differs_in_what_is_kept_is_quarantined(wire, monkeypatch, changed, said):
    """The id alone does not make it a repetition."""
    monkeypatch.setattr("outbox_inbox.inbox.admission._check_payload", lambda *_: None)
    bring(arriving(1, payload(1)))
    bring(arriving(1, **{"data": payload(1), **changed}, receipt=2))
    row = QuarantinedMessage.objects.get()
    assert row.reason == "conflict"
    assert said in row.error
    assert inbox(source="shop") == [1]


def test_a_message_of_another_type_is_quarantined(monkeypatch, settings):
    """Two contracts with the same fields may have the same payload."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SeenSold, Whispered))
    settings.OUTBOX_INBOX = WIRE
    bring(arriving(1), arriving(1, type="shop.whispered.v1", receipt=2))
    assert "another type" in QuarantinedMessage.objects.get().error
    assert inbox(type="shop.sold") == [1]


def test_a_repetition_with_other_tracing_headers_is_dropped(wire):
    """Each sending of a message may have a trace of its own."""
    bring(arriving(1, headers='{"traceparent":"one","who":"a"}'))
    bring(arriving(1, headers='{"traceparent":"two","who":"a"}', receipt=2))
    assert not QuarantinedMessage.objects.exists()
    assert inbox(source="shop") == [1]


def test_all_that_differs_is_named():
    """The reason is for an operator, who looks for the sender of the second."""
    one = Contents("a", 1, "k", "{}", "{}")
    assert conflict_between(one, one) == ""
    other = Contents("b", 2, "l", "[]", '{"x":1}')
    assert conflict_between(one, other).endswith(
        "with another type, version, key, payload and other headers"
    )


# Over local://


@pytest.mark.parametrize("apart", [False, True], ids=["one database", "two databases"])
def test_a_contract_with_a_used_id_is_quarantined_by_its_subscriber(settings, apart):
    """As if it had come over a broker; it does not block its key, and is announced."""
    if apart:
        settings.OUTBOX_INBOX = APART
    using = "other" if apart else "default"
    reuse(Sold)
    put(*steps(Sold, [3]))
    with heard(signals.message_quarantined) as told:
        relay()
    row = QuarantinedMessage.objects.using(using).get()
    assert (row.context, row.reason, row.message_id) == ("depot", "conflict", str(ID))
    assert bytes(row.data) == payload(2)
    assert [each["reason"] for each in told] == ["conflict"]
    assert states() == ["sent", "sent"]
    numbers = InboxMessage.objects.using(using).filter(context="depot", source="shop")
    assert numbers.count() == 2
    selection = QuarantineSelection(context="depot")
    assert release(selection).kept == {"conflict": 1}


def test_the_same_contract_with_a_used_id_is_a_repetition():
    """The caller has repeated what it had done before RETENTION was over."""
    reuse(Sold, number=1)
    run_all()
    assert picks("watch") == [1]
    assert states() == ["sent"]
    assert not QuarantinedMessage.objects.exists()


# Domain events


def test_a_domain_event_with_a_used_id_is_a_dead_letter():
    """It is announced with the reason, at once, and blocks its key until an operator decides."""
    reuse(Noted)
    put(*steps(Noted, [3]))
    put(*steps(Loose, [4]))
    with heard(signals.message_dead) as told:
        run_all()
    assert entries() == [1]
    assert entries("loose") == [4]
    row = OutboxMessage.objects.get(message_id=ID)
    assert (row.state, row.attempts) == ("dead", 1)
    assert "MessageConflict: its id was received before, with another payload" in row.error
    assert [each["message_id"] for each in told] == [ID]
    discard(Selection(context="shop", queue="outbox", id=ID), "a used id")
    run_all()
    assert entries() == [1, 3]


def test_the_same_domain_event_with_a_used_id_is_a_repetition():
    """Nothing is handled twice, and nothing is dead."""
    reuse(Noted, number=1)
    run_all()
    assert entries() == [1]
    assert states() == ["sent"]


@pytest.mark.catch_up
def test_a_domain_event_of_the_stream_with_a_used_id_is_a_dead_letter(settings):
    """The outbox gets it, with what follows it."""
    put(*steps(Noted, 1), message_id=ID)
    run_all()
    forget()
    settings.OUTBOX_INBOX = STREAM
    repartition()
    put(*steps(Noted, [2]), message_id=ID, stream="a")
    put(*steps(Noted, [3]), stream="a")
    run_all()
    assert entries() == [1]
    assert states() == ["dead", "waiting"]


# In another context


def test_two_contexts_of_a_database_may_use_one_id():
    """As if they were on two databases; within one of them an id stays used."""
    put(Noted(order="a", number=1), message_id=ID)
    put(Wanted(order="b", number=2), message_id=ID)
    for event in (Noted(order="a", number=3), Wanted(order="b", number=4)):
        with pytest.raises(DuplicateMessage):
            put(event, message_id=ID)
    run_all()
    assert entries() == [1]
    assert picks(order="b") == [2]


def test_two_streams_of_a_database_may_use_one_id():
    """A version that is not the expected one is no repetition because of another context's id."""
    put(Wanted(order="b", number=1), stream="b", message_id=ID)
    put(Noted(order="a", number=1), stream="a")
    with pytest.raises(ConcurrencyError):
        put(Noted(order="a", number=2), stream="a", expected_version=0, message_id=ID)
    put(Noted(order="a", number=2), stream="a", message_id=ID)
    with pytest.raises(DuplicateMessage):
        put(Noted(order="a", number=3), stream="a", message_id=ID)
    assert StoredEvent.objects.filter(message_id=ID).count() == 2


def test_what_a_repetition_takes_back_is_its_own_event_only():
    """The outbox of its context refuses the id, after the stream has taken it."""
    put(Wanted(order="b", number=1), stream="b", message_id=ID)
    put(Noted(order="a", number=1), message_id=ID)
    with transaction.atomic(), pytest.raises(DuplicateMessage):
        record(Noted(order="a", number=2), stream="a", message_id=ID)
    assert StoredEvent.objects.get().context == "depot"
