"""``record()``: everything or nothing, with the state that the events report."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from time import monotonic
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone as clock

from outbox_inbox import DuplicateMessage, Envelope, InvalidEvent, NotInAtomicBlock, record, streams
from outbox_inbox.events.uuid7 import uuid7
from outbox_inbox.exceptions import NotAContext
from outbox_inbox.models import InboxMessage, OutboxMessage, StoredEvent
from outbox_inbox.queues import interests
from tests.depot.events import Wanted
from tests.shop.contracts import Sold, Whispered
from tests.shop.events import Loose, Noted
from tests.shop.models import Entry
from tests.support.movers import (
    come_due,
    deliver,
    dispatch,
    entries,
    failing,
    put,
    raising,
    relay,
    steps,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

ELSEWHERE = {"CONTEXTS": {"shop": {"database": "other"}}}
NEVER = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
STRANGE_KEY = "å/%\u2028 \U0001f4e6"


def rows(using="default"):
    """Return the outbox, in order."""
    return list(OutboxMessage.objects.using(using).order_by("id"))


def numbers():
    """Return the numbers of the steps in the outbox, in order."""
    return [json.loads(row.payload)["number"] for row in rows()]


def record_and_fail(*events, using="default", **terms):
    """Record in a transaction, or savepoint, that is rolled back."""
    with transaction.atomic(using=using):
        record(*events, **terms)
        raise ZeroDivisionError


# With the state, or not at all


def test_without_a_transaction_nothing_is_recorded():
    """Outside atomic() an event could be committed without the state that it reports."""
    with pytest.raises(NotInAtomicBlock, match="'default'"):
        record(Noted(order="a", number=1))
    assert rows() == []


def test_a_transaction_of_another_database_is_none(settings):
    """An event is committed with its context's database, so that is where atomic() must be."""
    settings.OUTBOX_INBOX = ELSEWHERE
    with transaction.atomic(), pytest.raises(NotInAtomicBlock, match="'other'"):
        record(Noted(order="a", number=1))
    assert rows() == rows("other") == []


def test_a_rollback_takes_the_events_with_it():
    """What did not happen is not told."""

    @transaction.atomic
    def use_case():
        Entry.objects.create(consumer="use case", order="a", number=1)
        record(*steps(Noted, 2), stream="a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use_case()
    assert rows() == list(StoredEvent.objects.all()) == list(Entry.objects.all()) == []


def test_a_savepoint_that_is_rolled_back_takes_its_events_with_it():
    """What is recorded before and after it stays."""
    with transaction.atomic():
        record(Noted(order="a", number=1))
        with pytest.raises(ZeroDivisionError):
            record_and_fail(Noted(order="a", number=2))
        record(Noted(order="a", number=3))
    relay()
    dispatch()
    assert entries() == [1, 3]


def test_an_event_goes_to_the_database_of_its_context(settings):
    """The outbox is where the context's state is, and works there."""
    settings.OUTBOX_INBOX = ELSEWHERE
    with transaction.atomic(using="other"):
        record(Noted(order="a", number=1), stream="a")
    assert (len(rows()), len(rows("other"))) == (0, 1)
    assert streams.version("shop", "a") == 1
    relay()
    dispatch()
    assert list(Entry.objects.using("other").values_list("number", flat=True)) == [1]


def test_two_databases_commit_their_events_apart(settings):
    """A rollback on one alias does not touch what was recorded on the other."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"depot": {"database": "other"}}}
    with transaction.atomic():
        record(Noted(order="a", number=1))
        with pytest.raises(ZeroDivisionError):
            record_and_fail(Wanted(order="a", number=1), using="other")
    assert (len(rows()), len(rows("other"))) == (1, 0)


# Refused before any SQL


@pytest.mark.parametrize(
    ("events", "terms", "told"),
    [
        ([Noted(order=1, number=1)], {}, "order"),
        ([Noted(order="a\0", number=1)], {}, "order"),
        ([Noted(order="a", number=Decimal(1))], {}, "number"),
        ([Noted(order="a", number=1), Noted(order="b", number=None)], {}, "number"),
        ([Noted(order="a", number=1)], {"key": "x" * 201}, "201"),
        ([Noted(order="a", number=1)], {"key": ""}, "empty"),
        ([Noted(order="a", number=1)], {"key": 5}, "key"),
        ([Noted(order="a", number=1)], {"key": "a\0"}, "key"),
        ([Noted(order="a", number=1)], {"headers": {"a": 1}}, "headers"),
        ([Noted(order="a", number=1)], {"at": datetime(2030, 1, 1)}, "at is .* aware"),  # noqa: DTZ001
        (
            [Noted(order="a", number=1)],
            {"at": "2030-01-01"},
            "at is '2030-01-01'; expected an aware",
        ),
        ([Noted(order="a", number=1)], {"at": NEVER}, "year from 2 to 9998"),
        ([Noted(order="a", number=1)], {"at": datetime.min.replace(tzinfo=UTC)}, "year from 2"),
        ([Noted(order="a", number=1)], {"message_id": "not a UUID"}, "message_id"),
        ([Noted(order="a", number=1)], {"expected_version": 1}, "stream= is missing"),
        ([Noted(order="a", number=1)], {"stream": ""}, "stream"),
        ([Noted(order="a", number=1)], {"stream": "s" * 201}, "stream"),
        ([Noted(order="a", number=1)], {"stream": "s", "expected_version": -1}, "expected_version"),
        ([Noted(order="a", number=1)], {"stream": "s", "expected_version": True}, "expected"),
        (steps(Noted, 2), {"message_id": UUID(int=1)}, "2 events"),
        ([Noted(order="a", number=1), Wanted(order="a", number=1)], {}, "depot, shop"),
        ([Whispered(order="a", number=1)], {}, "publishes"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_any_sql(events, terms, told):
    """A call that is wrong costs the transaction nothing, and says what is wrong."""
    with transaction.atomic():
        with CaptureQueriesContext(connection) as queries, pytest.raises(InvalidEvent, match=told):
            record(*events, **terms)
        assert len(queries) == 0
    assert rows() == []


def test_all_that_is_wrong_is_told_at_once():
    """The problems of all events of a call are in one error."""
    with transaction.atomic(), pytest.raises(InvalidEvent) as caught:
        record(Noted(order=1, number="x"), Noted(order="a", number=1), Noted(order="a", number=1.5))
    told = " ".join(caught.value.errors)
    assert told.count("number") == 2
    assert told.count("order") == 1


def test_a_foreign_contract_is_not_recorded():
    """A contract is recorded by the context that its class belongs to, and only if published."""
    from tests.depot.contracts import Sold as View

    with transaction.atomic(), pytest.raises(InvalidEvent, match="publishes"):
        record(View(order="a", number=1))


def test_a_class_of_no_context_is_refused():
    """It is not known where such an event would have to go."""
    from outbox_inbox import DomainEvent

    class Stray(DomainEvent):
        """Belongs to the tests."""

    with transaction.atomic(), pytest.raises(NotAContext):
        record(Stray())


def test_nothing_to_record_is_nothing_done():
    """A call without events costs no SQL."""
    with CaptureQueriesContext(connection) as queries:
        assert record() == []
    assert len(queries) == 0


# What is stored


def test_an_envelope_says_what_was_stored():
    """The return value is what the consumer of the message will be given."""
    seen = []
    with playing(witness=lambda event, envelope: seen.append(envelope)):
        recorded = deliver(Noted(order="a", number=1), headers={"who": "ÿ"}, key=STRANGE_KEY)
        dispatch()
    assert seen == recorded
    (envelope,) = recorded
    assert isinstance(envelope, Envelope)
    assert (envelope.type, envelope.version, envelope.source) == ("shop.Noted", 1, "shop")
    assert (envelope.key, envelope.headers) == (STRANGE_KEY, {"who": "ÿ"})
    assert envelope.data == '{"number":1,"order":"a"}'
    assert envelope.time.tzinfo is UTC


def test_the_time_is_the_clock_of_the_database(monkeypatch):
    """A server whose own clock is wrong stamps its messages like the others."""
    monkeypatch.setattr(clock, "now", lambda: datetime(2001, 1, 1, tzinfo=UTC))
    (envelope,) = put(Noted(order="a", number=1))
    assert abs(datetime.now(UTC) - envelope.time) < timedelta(minutes=1)


def test_the_key_of_the_class_can_be_overridden():
    """``key=`` orders all events of the call, whatever their classes name."""
    with transaction.atomic():
        record(Noted(order="a", number=1), Loose(order="a", number=1), key="k")
        record(Noted(order="a", number=1), Loose(order="a", number=1))
    assert [row.key for row in rows()] == ["k", "k", "a", None]


def test_a_message_id_of_the_callers_own_is_used():
    """It is the id that consumers see."""
    message_id = uuid7()
    (envelope,) = put(Noted(order="a", number=1), message_id=message_id)
    assert envelope.id == message_id == rows()[0].message_id


def test_a_contract_can_be_recorded_directly():
    """A published contract needs no domain event before it."""
    (envelope,) = put(Sold(order="a", number=1))
    assert (envelope.type, rows()[0].kind) == ("shop.sold", "integration")


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))]
)
def test_the_zone_of_a_schedule_does_not_matter(zone):
    """``at=`` names a moment, the same one in each time zone, before which nothing is sent."""
    put(Noted(order="a", number=1), at=(clock.now() + timedelta(hours=1)).astimezone(zone))
    put(Noted(order="b", number=1), at=(clock.now() - timedelta(hours=1)).astimezone(zone))
    assert relay().done == 1
    assert [row.key for row in rows() if row.state == "pending"] == ["a"]
    come_due()
    assert relay().done == 1


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_the_zone_of_the_project_does_not_matter(settings, zone, use_tz):
    """Schedules, back-offs and time stamps are moments, however Django stores them."""
    settings.USE_TZ, settings.TIME_ZONE = use_tz, zone
    now = datetime.now(UTC)
    (envelope,) = put(Noted(order="a", number=1))
    put(Noted(order="b", number=1), at=now + timedelta(minutes=1))
    put(Noted(order="c", number=1), at=now - timedelta(minutes=1))
    assert abs(envelope.time - now) < timedelta(seconds=50)
    assert relay().done == 2
    with playing(note=failing(1)):
        assert [(each.done, each.failed) for each in (dispatch(), dispatch())] == [(3, 1), (0, 0)]
    come_due()
    assert (relay().done, dispatch().done) == (1, 3)


def test_a_hundred_events_are_a_handful_of_statements():
    """The number of round trips does not grow with the number of events."""
    events = steps(Noted, 100)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        record(*events)
        record(*events, stream="a")
    # MySQL has no RETURNING: it is asked for what each INSERT has stored.
    asked = 3 if connection.vendor == "mysql" and not connection.mysql_is_mariadb else 0
    assert len(queries) <= 4 + asked
    assert numbers() == [*range(1, 101)] * 2


def test_events_beyond_one_statement_are_stored_in_order():
    """A call may have more events than one INSERT takes."""
    put(*steps(Noted, 1_201), stream="a")
    assert numbers() == [*range(1, 1_202)]
    assert [each.event.number for each in streams.read("shop", "a")] == [*range(1, 1_202)]


# Duplicates


@pytest.mark.parametrize("terms", [{}, {"stream": "a"}, {"stream": "b", "expected_version": 0}])
@pytest.mark.parametrize("first", [{}, {"stream": "a"}])
def test_a_message_id_is_recorded_once(first, terms):
    """A second record() with it raises, stores nothing, and leaves the transaction usable."""
    message_id = uuid7()
    put(Noted(order="a", number=1), message_id=message_id, **first)
    with transaction.atomic():
        with pytest.raises(DuplicateMessage):
            record(Noted(order="a", number=2), message_id=message_id, **terms)
        record(Noted(order="a", number=3))
    assert numbers() == [1, 3]
    assert StoredEvent.objects.count() == len(first)


def test_a_message_id_is_recorded_once_within_a_transaction():
    """The duplicate is found also before the first one is committed."""
    message_id = uuid7()
    with transaction.atomic():
        record(Noted(order="a", number=1), message_id=message_id)
        with pytest.raises(DuplicateMessage):
            record(Noted(order="a", number=2), message_id=message_id)
    assert len(rows()) == 1


def test_a_message_id_whose_transaction_was_rolled_back_is_free():
    """The caller tries again with the same id, and this time it counts."""
    message_id = uuid7()
    with pytest.raises(ZeroDivisionError):
        record_and_fail(Noted(order="a", number=1), message_id=message_id)
    put(Noted(order="a", number=1), message_id=message_id)
    assert len(rows()) == 1


def test_a_stream_remembers_message_ids_for_ever():
    """Also when the outbox row has been pruned."""
    message_id = uuid7()
    put(Noted(order="a", number=1), message_id=message_id, stream="a")
    OutboxMessage.objects.all().delete()
    with transaction.atomic(), pytest.raises(DuplicateMessage):
        record(Noted(order="a", number=1), message_id=message_id, stream="a", expected_version=0)


# Cause and effect


def test_a_message_that_nobody_caused_begins_a_conversation():
    """Its correlation id is its own id."""
    first, second = put(*steps(Noted, 2))
    assert (first.correlation_id, first.causation_id) == (first.id, None)
    assert (second.correlation_id, second.causation_id) == (second.id, None)


def test_a_message_recorded_in_a_handler_knows_its_cause():
    """Correlation and causation ids are set without a word in the handler."""
    made = []
    with playing(note=lambda event: made.extend(record(Loose(order="a", number=1)))):
        (cause,) = deliver(Noted(order="a", number=1))
        dispatch()
        relay()
    (effect,) = made
    assert (effect.correlation_id, effect.causation_id) == (cause.id, cause.id)
    seen = []
    with playing(loose=lambda event: seen.extend(record(Noted(order="a", number=2)))):
        dispatch()
    assert (seen[0].correlation_id, seen[0].causation_id) == (cause.id, effect.id)


def test_what_is_recorded_after_a_handler_has_no_cause():
    """The message being handled is forgotten when its handler ends, however it ends."""
    deliver(*steps(Noted, 2))
    with playing(note=lambda event: 1 / (event.number - 1)):
        dispatch()
    (envelope,) = put(Loose(order="a", number=1))
    assert envelope.causation_id is None


def test_a_message_recorded_in_a_handler_that_fails_is_not_recorded():
    """It is rolled back with everything else that the handler did."""
    deliver(Noted(order="a", number=1))
    with playing(note=lambda event: record_and_fail(Loose(order="a", number=1))):
        dispatch()
    assert not OutboxMessage.objects.filter(type="shop.Loose").exists()


def test_a_loop_of_messages_is_ended(settings):
    """A handler that answers itself comes to MAX_HOPS, and its message is dead at once."""
    settings.OUTBOX_INBOX = {"MAX_HOPS": 3}
    with playing(note=lambda event: record(Noted(order="a", number=event.number + 1))):
        put(Noted(order="a", number=1))
        outcomes = [relay() + dispatch() for _ in range(6)]
    assert entries() == [1, 2, 3]
    assert sum(outcome.dead for outcome in outcomes) == 1
    assert list(InboxMessage.objects.order_by("id").values_list("hops", flat=True)) == [0, 1, 2, 3]


def test_a_broken_transaction_stays_broken():
    """record() does not hide that the caller has swallowed an error of the database."""
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            record(Noted(order="a", number=1))
    assert rows() == []


def test_a_confirmation_that_fails_leaves_the_commit_alone(monkeypatch, caplog):
    """It comes after the commit: the use case has succeeded, and the log names what failed."""
    interests.confirm_interests("default")
    later = monotonic() + 60
    monkeypatch.setattr(interests, "monotonic", lambda: later)
    monkeypatch.setattr(interests, "confirm_interests", raising(OperationalError))
    put(*steps(Noted, 1))
    assert any("_confirmation" in each for each in caplog.messages)
