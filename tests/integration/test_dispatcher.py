"""The dispatcher: once, in order, whatever the consumers do."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from outbox_inbox import PermanentError, record, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.inbox import dispatcher, execution
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    Partition,
    Queue,
)
from outbox_inbox.operations import Selection, discard, retry
from outbox_inbox.queues.partitions import operator_lock
from outbox_inbox.queues.run import Run
from tests.depot.events import Wanted
from tests.shop.contracts import Sold
from tests.shop.events import (
    Checked,
    Closed,
    Counted,
    Grown,
    Listed,
    Loose,
    Noted,
    Opened,
    Skipped,
    Twice,
)
from tests.shop.models import Entry, Remark
from tests.support.movers import (
    Broken,
    Worker,
    come_due,
    crash,
    crashing,
    deliver,
    delivery_states,
    dispatch,
    end_session,
    entries,
    failing,
    fall_silent,
    leave_token,
    picks,
    put,
    receive,
    relay,
    session,
    steps,
    striking,
)
from tests.support.script import playing

pytestmark = pytest.mark.usefixtures("committed")

ONE = {"PARTITIONS": {"inbox": 1}}

each_way = pytest.mark.parametrize(
    ("consumer", "event"),
    [("note", Noted), ("count", Counted), ("enlist", Listed)],
    ids=["message", "batch", "list"],
)


@pytest.fixture
def one(settings):
    """One partition, so that all deliveries are read ahead together."""
    settings.OUTBOX_INBOX = ONE
    Partition.objects.filter(queue=Queue.INBOX, number__gt=0).delete()


def delivery(consumer, number=1, **which):
    """Return a delivery of a consumer of the shop by the number of its step."""
    return Delivery.objects.get(
        consumer__endswith=f".{consumer}",
        message__payload__contains=f'"number":{number},',
        **which,
    )


def numbers(events):
    """Return the numbers of what a handler was given."""
    return [event.number for event in (events if isinstance(events, list) else [events])]


def received(signal, into):
    """Connect a list to a signal; return what disconnects it."""

    def receive(**told):
        into.append(told)

    signal.connect(receive, weak=False)
    return lambda: signal.disconnect(receive)


# Once and in order


@each_way
def test_every_message_is_handled_once_and_in_order(consumer, event):
    """Over several partitions, keys and transactions."""
    for number in range(1, 8):
        deliver(*(event(order=order, number=number) for order in "abcde"))
    dispatch()
    dispatch()
    assert all(entries(consumer, order) == [*range(1, 8)] for order in "abcde")
    assert set(delivery_states(consumer)) == {"done"}


@each_way
def test_effects_and_mark_are_committed_together(one, consumer, event):
    """Rule O5: after a crash just before the commit there is neither, and then there are both."""
    deliver(*steps(event, 3))
    with crashing(), striking("dispatch.before_commit", crash):
        dispatch()
    assert entries(consumer) == []
    assert delivery_states(consumer) == ["ready"] * 3
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_a_crash_just_after_the_commit_repeats_nothing(one, consumer, event):
    """What is committed is done."""
    deliver(*steps(event, 3))
    with crashing(), striking("dispatch.after_commit", crash):
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_an_error_after_the_commit_repeats_nothing(one, consumer, event):
    """Whatever goes wrong then, the effects are there, and so is the mark."""
    deliver(*steps(event, 3))
    with striking("dispatch.after_commit", lambda: 1 / 0):
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert not DeliveryAttempt.objects.exists()


@each_way
def test_an_error_of_the_callers_progress_bar_repeats_nothing(one, consumer, event):
    """It is the caller's own, comes after the commit, and the partition has a clean end."""
    deliver(*steps(event, 3))
    with pytest.raises(ZeroDivisionError):
        dispatch(progress=lambda count: 1 / 0)
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert not Partition.objects.filter(run__isnull=False).exists()


def test_a_handler_of_two_events_keeps_one_order_for_both():
    """It is one consumer, with one delivery for each message of either class."""
    deliver(
        Opened(order="a", number=1),
        Closed(order="a", number=2),
        Opened(order="a", number=3),
    )
    with playing(follow=failing(2)):
        dispatch()
    assert entries("follow") == [1]
    come_due()
    dispatch()
    assert entries("follow") == [1, 2, 3]


def test_a_handler_may_ask_for_the_envelope():
    """It is the second argument: of a list handler a list."""
    seen = []
    recorded = deliver(*steps(Noted, 2)) + deliver(*steps(Listed, 2))
    with playing(
        witness=lambda event, envelope: seen.append((event, envelope)),
        survey=lambda events, envelopes: seen.extend(zip(events, envelopes, strict=True)),
    ):
        dispatch()
    events = {(type(event).__name__, event.number) for event, _ in seen}
    assert events == {("Noted", 1), ("Noted", 2), ("Listed", 1), ("Listed", 2)}
    assert {envelope.id for _, envelope in seen} == {envelope.id for envelope in recorded}


def test_a_list_handler_gets_what_there_is_in_one_call(one):
    """Up to BATCH_SIZE events of one partition, of any keys, in order."""
    deliver(*steps(Listed, 3), *steps(Listed, 2, "b"))
    calls = []
    with playing(enlist=lambda events: calls.append(numbers(events))):
        dispatch()
    assert calls == [[1, 2, 3, 1, 2]]


# Limits


@each_way
def test_a_limit_is_kept(one, consumer, event):
    """``limit`` counts deliveries, and leaves the partitions with a clean end."""
    deliver(*steps(event, 5))
    Delivery.objects.filter(consumer="shop.handlers.witness").delete()
    Delivery.objects.filter(consumer="shop.handlers.survey").delete()
    assert dispatch(limit=2).done == 2
    assert entries(consumer) == [1, 2]
    assert not Partition.objects.filter(run__isnull=False).exists()


def test_the_dispatcher_stops_between_transactions_when_it_is_told_to(one):
    """What it has begun is finished; nothing else is."""
    deliver(*steps(Loose, 5))
    done = []
    dispatch(progress=done.append, stop=lambda: len(done) == 2)
    assert entries("loose") == [1, 2]


def test_a_batch_is_ended_when_its_time_is_up(one, monkeypatch):
    """BATCH_TIME bounds how long a transaction is open, whatever its handlers take."""
    ticks = iter(range(1_000))
    monkeypatch.setattr(execution.batches, "monotonic", lambda: next(ticks))
    deliver(*steps(Counted, 3))
    batches = []
    dispatch(progress=batches.append)
    assert batches == [1, 1, 1]
    assert entries("count") == [1, 2, 3]


def test_a_batch_of_quick_handlers_is_one_transaction(one):
    """Many messages share a commit."""
    deliver(*steps(Counted, 20))
    batches = []
    dispatch(progress=batches.append)
    assert batches == [20]


# A handler that fails


@each_way
def test_what_a_failed_handler_did_is_undone(consumer, event):
    """Nothing of it is left but the attempt, with its traceback."""
    deliver(*steps(event, 1))
    with playing(**{consumer: failing(1)}):
        outcome = dispatch()
    assert (entries(consumer), outcome.failed) == ([], 1)
    failed = delivery(consumer)
    assert (failed.state, failed.attempts, failed.holds) == ("ready", 1, True)
    assert failed.error == "Broken: not 1"
    (attempt,) = failed.failures.all()
    assert (attempt.number, attempt.error) == (1, "Broken: not 1")
    assert "in fail\n    raise error" in attempt.traceback


@each_way
def test_a_failed_message_holds_its_followers_and_nobody_else(one, consumer, event):
    """Rule O6: the later messages of its key wait, those of other keys pass."""
    deliver(*steps(event, 3), *steps(event, 3, "b"))
    with playing(**{consumer: failing(2)}):
        dispatch()
    assert entries(consumer) == [1]
    assert entries(consumer, "b") == [1, 2, 3]
    assert delivery_states(consumer, key="a") == ["done", "ready", "waiting"]


@each_way
def test_followers_go_when_the_head_is_done(one, consumer, event):
    """In order, those that came meanwhile as well."""
    deliver(*steps(event, 3))
    with playing(**{consumer: failing(1)}):
        dispatch()
        deliver(*steps(event, [4]))
        dispatch()
        come_due()
        dispatch()
    assert entries(consumer) == []
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2, 3, 4]
    assert delivery(consumer).attempts == 2


@each_way
def test_only_the_guilty_message_of_a_batch_is_counted_against(one, consumer, event):
    """The others are done at once, each exactly once."""
    deliver(*steps(event, 5), *(event(order=f"x{n}", number=n) for n in range(5)))
    with playing(**{consumer: failing(2, 4)}):
        dispatch()
    assert Entry.objects.filter(consumer=consumer).count() == 1 + 5
    attempts = Delivery.objects.filter(consumer__endswith=f".{consumer}", attempts__gt=0)
    assert [each.message.payload for each in attempts] == ['{"number":2,"order":"a"}']


def test_a_batch_that_failed_is_done_again_with_savepoints(one):
    """First without them, which is faster; only after a failure with one each."""
    deliver(*steps(Counted, 2), *steps(Counted, 2, "b"))
    calls = []

    def part(event):
        calls.append((event.order, event.number))
        failing(2)(event)

    with playing(count=part):
        dispatch()
    first, second = [("a", 1), ("a", 2)], [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert calls == first + second


def test_a_message_that_failed_before_gets_a_savepoint_at_once(one):
    """It is likely to fail again, and then the batch need not be done twice."""
    deliver(*steps(Counted, 1), *steps(Counted, 3, "b"))
    calls = []

    def part(event):
        calls.append((event.order, event.number))
        failing(1)(event)

    with playing(count=part):
        dispatch()
        come_due()
        deliver(*steps(Counted, [4], "b"))
        calls.clear()
        dispatch()
    assert calls == [("a", 1), ("b", 4)]


@each_way
def test_a_message_is_dead_after_its_last_attempt(settings, consumer, event):
    """MAX_ATTEMPTS failures, then it waits for a person, and so do its followers."""
    settings.OUTBOX_INBOX = {"MAX_ATTEMPTS": 3}
    deliver(*steps(event, 2))
    dead, failed = [], []
    stop = received(signals.delivery_dead, dead), received(signals.delivery_failed, failed)
    with playing(**{consumer: failing(1)}):
        for _ in range(5):
            dispatch()
            come_due()
    for each in stop:
        each()
    assert delivery_states(consumer) == ["dead", "waiting"]
    assert [told["attempts"] for told in failed] == [1, 2]
    assert [told["attempts"] for told in dead] == [3]
    assert [each.number for each in delivery(consumer).failures.order_by("id")] == [1, 2, 3]


@each_way
def test_a_permanent_error_is_not_tried_again(consumer, event):
    """The delivery is dead at once."""
    deliver(*steps(event, 1))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        assert dispatch().dead == 1
    assert delivery_states(consumer) == ["dead"]


@each_way
def test_a_retried_message_goes_before_its_followers(settings, one, consumer, event):
    """What waited behind a dead message comes after it."""
    deliver(*steps(event, 2))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        dispatch()
    deliver(*steps(event, [3]))
    retry(Selection(context="shop"))
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_followers_of_a_discarded_message_go(one, consumer, event):
    """The person who discards it says that they need not wait for it."""
    deliver(*steps(event, 3))
    with playing(**{consumer: failing(1, error=PermanentError)}):
        dispatch()
    discard(Selection(context="shop"), "not needed")
    dispatch()
    assert entries(consumer) == [2, 3]


def test_the_back_off_grows(settings):
    """Each failed attempt is followed by a longer pause, during which it is left alone."""
    settings.OUTBOX_INBOX = {"BACKOFF": {"first": timedelta(minutes=1), "jitter": 0}}
    deliver(*steps(Noted, 1))
    told, calls = [], []
    stop = received(signals.delivery_failed, told)

    def part(event):
        calls.append(event.number)
        raise Broken

    with playing(note=part):
        for _ in range(3):
            dispatch()
            dispatch()
            come_due()
    stop()
    assert [each["delay"].total_seconds() for each in told] == [60, 120, 240]
    assert len(calls) == 3


def test_a_consumer_may_have_attempts_of_its_own():
    """``max_attempts=`` counts for it, whatever MAX_ATTEMPTS says."""
    deliver(*steps(Twice, 1))
    with playing(twice=failing(1)):
        outcomes = []
        for _ in range(3):
            outcomes.append(dispatch())
            come_due()
    assert [(each.failed, each.dead) for each in outcomes] == [(1, 0), (0, 1), (0, 0)]


def test_followers_of_a_dead_message_may_pass():
    """With ``on_dead="skip"`` the key goes on without it."""
    deliver(*steps(Skipped, 3))
    with playing(skip=failing(2)):
        dispatch()
    assert entries("skip") == [1, 3]
    assert delivery_states("skip") == ["done", "dead", "done"]


def test_followers_pass_only_when_the_message_is_dead(one):
    """As long as there are attempts left they wait, and then they all go."""
    deliver(*steps(Twice, 3))
    with playing(twice=failing(1)):
        dispatch()
        dispatch()
        assert delivery_states("twice") == ["ready", "waiting", "waiting"]
        come_due()
        dispatch()
    assert entries("twice") == [2, 3]
    assert delivery_states("twice") == ["dead", "done", "done"]


def test_messages_without_a_key_never_wait(one):
    """What has no order is held by nobody."""
    deliver(*steps(Loose, 4))
    with playing(loose=failing(2)):
        dispatch()
    assert entries("loose") == [1, 3, 4]


def test_a_failing_consumer_neither_blocks_nor_repeats_another():
    """Each has a delivery of its own."""
    calls = []
    deliver(*steps(Noted, 3))
    with playing(note=failing(1), witness=lambda event, envelope: calls.append(event.number)):
        for _ in range(3):
            dispatch()
            come_due()
    assert calls == [1, 2, 3]
    assert entries("note") == []


def test_followers_of_a_blocked_head_cost_a_poll_nothing(one):
    """They are met once, and from then on the poll is that of an empty inbox."""
    deliver(*steps(Counted, 1_200))
    with playing(count=failing(1, error=PermanentError)):
        assert dispatch().held == 1_199
    with CaptureQueriesContext(connection) as queries:
        dispatch()
    assert len(queries) == 1


def test_an_error_text_that_no_database_takes_is_stored_all_the_same(settings):
    """An error may quote anything, at any length."""
    deliver(*steps(Noted, 1))

    def part(event):
        raise Broken("\0\ud800" + "x" * 50_000)

    with playing(note=part):
        dispatch()
    assert delivery("note").error.startswith("Broken: \\x00\\ud800xxx")
    assert len(delivery("note").error) <= 1_000


# A handler that misbehaves


@each_way
def test_a_transaction_marked_for_rollback_is_a_failure(one, consumer, event):
    """`set_rollback(True)` would end the transaction without an error, and without the effects."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            transaction.set_rollback(True)

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery_states(consumer) == ["ready", "waiting"]
    assert "marked for rollback" in delivery(consumer).error
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_a_swallowed_database_error_is_a_failure(one, consumer, event):
    """PostgreSQL answers the COMMIT of a broken transaction with a ROLLBACK, which is no error."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            try:
                Entry.objects.create(pk=Entry.objects.first().pk)
            except DatabaseError:
                return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery(consumer).attempts == 1


@pytest.mark.postgres
@each_way
def test_an_error_swallowed_below_the_orm_is_a_failure(one, consumer, event):
    """Django knows nothing of it, but the connection does."""
    deliver(*steps(event, 2))

    def part(events):
        if 1 in numbers(events):
            try:
                connection.connection.execute("SELECT 1/0")
            except Exception:  # noqa: BLE001  a handler of that kind catches everything
                return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == []
    assert delivery(consumer).attempts == 1


@each_way
def test_a_database_error_within_a_savepoint_may_be_swallowed(one, consumer, event):
    """That is what savepoints are for."""
    deliver(*steps(event, 2))

    def part(events):
        try:
            with transaction.atomic():
                Entry.objects.create(pk=Entry.objects.first().pk)
        except DatabaseError:
            return

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_an_error_of_an_on_commit_hook_is_no_failed_attempt(one, consumer, event):
    """It comes after everything is stored; it is announced, and nothing is repeated."""
    deliver(*steps(event, 2))
    told = []
    stop = received(signals.hook_failed, told)
    with playing(**{consumer: lambda events: transaction.on_commit(lambda: 1 / 0)}):
        dispatch()
    stop()
    assert entries(consumer) == [1, 2]
    assert delivery_states(consumer) == ["done", "done"]
    assert told[0]["error"] == "ZeroDivisionError: division by zero"


@each_way
def test_an_on_commit_hook_runs_after_the_commit(one, consumer, event):
    """What it sees is what everybody sees."""
    deliver(*steps(event, 1))
    seen = []
    with (
        Worker() as other,
        playing(
            **{
                consumer: lambda events: transaction.on_commit(
                    lambda: seen.append(other.do(entries, consumer))
                )
            }
        ),
    ):
        dispatch()
    assert seen == [[1]]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@each_way
def test_an_interruption_undoes_and_releases(one, consumer, event, error):
    """It is raised, the message is as it was, and the partition is left with a clean end."""
    deliver(*steps(event, 2))
    with playing(**{consumer: failing(1, error=error)}), pytest.raises(error):
        dispatch()
    assert entries(consumer) == []
    assert set(
        Delivery.objects.filter(consumer__endswith=consumer).values_list("state", "attempts")
    ) == {("ready", 0)}
    assert not Partition.objects.filter(run__isnull=False).exists()
    dispatch()
    assert entries(consumer) == [1, 2]


@each_way
def test_a_constraint_that_fails_at_commit_is_a_failed_attempt_of_the_guilty(one, consumer, event):
    """A deferred foreign key is only checked by COMMIT, when all handlers have returned."""
    deliver(*steps(event, 3), *steps(event, 2, "b"))

    def part(events):
        if any((each.order, each.number) == ("a", 2) for each in as_list(events)):
            Remark.objects.create(entry_id=1_000_000_000)

    with playing(**{consumer: part}):
        dispatch()
    assert entries(consumer) == [1]
    assert entries(consumer, "b") == [1, 2]
    assert delivery(consumer, 2, key="a").error.startswith("IntegrityError")
    assert delivery_states(consumer, key="a") == ["done", "ready", "waiting"]
    come_due()
    dispatch()
    assert entries(consumer) == [1, 2, 3]


def as_list(events):
    """Return a list of what a handler was given."""
    return events if isinstance(events, list) else [events]


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
@each_way
def test_a_lost_connection_is_no_failed_attempt(one, consumer, event):
    """It is raised, since it is the fault of no message, and the message is handled later."""
    deliver(*steps(event, 2))

    def part(events):
        end_session(session())

    with playing(**{consumer: part}), pytest.raises(OperationalError):
        dispatch()
    connection.close()
    assert not DeliveryAttempt.objects.exists()
    assert Partition.objects.get(context="shop", queue=Queue.INBOX).run is not None
    leave_token(Queue.INBOX)
    dispatch()
    assert entries(consumer) == [1, 2]


@pytest.mark.postgres
@pytest.mark.mariadb
@pytest.mark.mysql
def test_a_connection_that_is_lost_between_two_messages_is_no_failed_attempt(one):
    """What is done is done, and the next message was not even begun."""
    deliver(*steps(Noted, 3))
    mine = session()
    with Worker() as other:
        cut = striking("dispatch.after_commit", lambda: other.do(end_session, mine))
        with cut, pytest.raises(OperationalError):
            dispatch()
    connection.close_if_unusable_or_obsolete()  # as a worker does after an error
    assert not DeliveryAttempt.objects.exists()
    fall_silent()
    dispatch()
    assert entries() == [1, 2, 3]


@each_way
def test_a_database_that_is_locked_for_too_long_is_no_failed_attempt(
    one, monkeypatch, consumer, event
):
    """The message was not even touched; the error is raised."""
    deliver(*steps(event, 2))

    def be_locked(*_, **__):
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "claim", be_locked)
        patch.setattr(dispatcher.statements, "mark_done", be_locked)
        with pytest.raises(OperationalError):
            dispatch()
    assert not DeliveryAttempt.objects.exists()
    assert not Partition.objects.filter(run__isnull=False).exists()
    dispatch()
    assert entries(consumer) == [1, 2]


# Messages that cannot be handled here and now


def test_a_consumer_that_is_unknown_is_tried_again(settings):
    """It may be deployed a moment later; nobody else waits for it."""
    deliver(*steps(Noted, 2))
    Delivery.objects.filter(consumer="shop.handlers.note").update(consumer="shop.handlers.nota")
    outcome = dispatch()
    assert (outcome.failed, outcome.done) == (1, 2)
    assert "no consumer 'shop.handlers.nota'" in delivery("nota").error
    Delivery.objects.filter(consumer="shop.handlers.nota").update(consumer="shop.handlers.note")
    come_due()
    dispatch()
    assert entries() == [1, 2]


def test_a_newer_version_is_tried_again():
    """Its sender was deployed before its reader, which will follow."""
    deliver(*steps(Noted, 1))
    InboxMessage.objects.update(schema_version=2)
    assert (dispatch().dead, delivery_states()) == (0, ["ready"])
    assert delivery("note").error.startswith("NewerVersion")
    InboxMessage.objects.update(schema_version=1)
    come_due()
    dispatch()
    assert entries() == [1]


def test_an_older_version_is_upcast():
    """A message that waited through a deployment is read as what it would be today."""
    deliver(Grown(order="a", number=1))
    InboxMessage.objects.update(schema_version=1, payload='{"count":7,"order":"a"}')
    dispatch()
    assert entries("grow") == [7]


@each_way
@pytest.mark.parametrize("payload", ["no JSON", '{"order":"a"}', "[" * 100_000, '"\\ud800"'])
def test_an_unreadable_payload_is_dead_for_its_consumer_only(one, consumer, event, payload):
    """It is dead at once, holds its key there, and nobody else notices."""
    deliver(*steps(event, 1), *steps(event, 2, "b"))
    InboxMessage.objects.filter(key="a").update(payload=payload)
    deliver(*steps(event, [2]))
    dispatch()
    assert delivery_states(consumer, key="a") == ["dead", "waiting"]
    assert entries(consumer, "b") == [1, 2]


def test_a_contract_is_read_strictly_when_it_is_handled_too():
    """It came from outside, whoever has looked at it before: a name that stands twice is refused."""
    put(Sold(order="a", number=1))
    relay("shop")
    receive("depot")
    InboxMessage.objects.filter(context="depot").update(
        payload='{"number":1,"number":2,"order":"a"}'
    )
    assert (dispatch("depot").done, picks("watch")) == (0, [])
    assert "one object has the key" in Delivery.objects.filter(context="depot")[0].error


def test_unreadable_headers_are_dead_like_an_unreadable_payload():
    """An envelope cannot be made of them."""
    deliver(*steps(Noted, 1))
    InboxMessage.objects.update(headers='{"a":1}')
    dispatch()
    assert delivery_states() == ["dead"]


# Translators


def test_an_outbound_translator_records_a_contract():
    """In the outbox, with its cause, in the transaction of its delivery."""
    (cause,) = deliver(Checked(order="a", number=1), headers={"who": "me"})
    dispatch()
    made = OutboxMessage.objects.get(type="shop.sold")
    assert (made.key, made.payload) == ("a", '{"number":1,"order":"a"}')
    assert (made.causation_id, made.correlation_id) == (cause.id, cause.id)


@pytest.mark.parametrize("several", [list, tuple])
def test_a_translator_may_make_several_events(several):
    """A list or a tuple of them, in order."""
    deliver(Checked(order="a", number=1))
    with playing(announce=lambda event: several(steps(Sold, 3))):
        dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_a_translator_may_make_nothing(nothing):
    """Not every fact is of interest to others."""
    deliver(Checked(order="a", number=1))
    with playing(announce=lambda event: nothing):
        dispatch()
    assert delivery_states("announce") == ["done"]
    assert not OutboxMessage.objects.filter(type="shop.sold").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        [Sold(order="a", number=1), None],
        Noted(order="a", number=1),
        Wanted(order="a", number=1),
        (event for event in ()),
    ],
    ids=["text", "None in a list", "a domain event", "an event of another context", "generator"],
)
def test_a_translator_that_returns_something_else_has_failed(one, wrong):
    """What it made is not stored, and its neighbours in the batch are not touched."""
    deliver(Checked(order="a", number=1), Checked(order="b", number=1))
    with playing(announce=lambda e: wrong if e.order == "a" else Sold(order="b", number=1)):
        dispatch()
    assert delivery("announce", key="a").error.startswith("HandlerError: the outbound translator")
    assert list(OutboxMessage.objects.filter(type="shop.sold").values_list("key", flat=True)) == [
        "b"
    ]


def test_a_translator_that_speaks_for_another_context_has_failed(one):
    """An event belongs to the context of its class, whoever makes one."""
    from tests.depot.contracts import Sold as View

    deliver(Checked(order="a", number=1), Sold(order="a", number=1))
    with playing(
        announce=lambda event: View(order="a", number=1),
        want=lambda event: Noted(order="a", number=1),
    ):
        dispatch()
        dispatch("depot")
    for consumer in ("announce", "want"):
        assert "expected " in delivery(consumer).error
    assert InboxMessage.objects.count() == OutboxMessage.objects.count() == 2


def test_an_invalid_event_of_a_translator_is_its_failed_attempt(one):
    """What record() would refuse is refused here as well, before it can break the batch."""
    deliver(Checked(order="a", number=1), Checked(order="b", number=1))
    with playing(announce=lambda e: Sold(order=e.order, number="1" if e.order == "a" else 1)):
        dispatch()
    assert delivery("announce", key="a").error.startswith("InvalidEvent: Sold: number")
    assert list(OutboxMessage.objects.filter(type="shop.sold").values_list("key", flat=True)) == [
        "b"
    ]


def test_an_inbound_translator_puts_its_event_into_the_own_inbox():
    """In the transaction of its delivery, so that it is there exactly once; it is handled next."""
    from tests.support.movers import picks

    deliver(Sold(order="a", number=1))
    dispatch("depot")
    assert (picks("pick"), picks("watch")) == ([1], [1])
    made = InboxMessage.objects.get(type="depot.Wanted")
    cause = InboxMessage.objects.get(type="shop.sold")
    assert (made.context, made.source, made.key) == ("depot", "depot", "a")
    assert (made.causation_id, made.correlation_id, made.hops) == (
        cause.message_id,
        cause.correlation_id,
        cause.hops + 1,
    )
    assert not OutboxMessage.objects.filter(context="depot").exists()


def test_what_a_translator_made_is_undone_when_its_batch_is(one):
    """Neither contract nor mark are there after a crash, and then both are, once."""
    deliver(*steps(Checked, 3))
    with crashing(), striking("dispatch.before_commit", crash):
        dispatch()
    assert not OutboxMessage.objects.filter(type="shop.sold").exists()
    dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3"]


def test_what_translators_make_keeps_the_order_of_their_events(one):
    """Also when some of them have failed before."""

    def part(event):
        failing(2)(event)
        return Sold(order=event.order, number=event.number)

    deliver(*steps(Checked, 3))
    with playing(announce=part):
        dispatch()
    deliver(*steps(Checked, [4]))
    come_due()
    dispatch()
    rows = OutboxMessage.objects.filter(type="shop.sold").order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3", "4"]


# Crashes


@each_way
def test_after_a_crash_each_attempt_is_committed_before_it_is_made(one, consumer, event):
    """Rule O9: otherwise a message that kills its worker would do so for ever."""
    deliver(*steps(event, 2))
    leave_token(Queue.INBOX)
    seen = []
    with Worker() as other:

        def part(events):
            (number,) = numbers(events)
            seen.append(other.do(delivery, consumer, number).attempts)

        with playing(**{consumer: part}):
            dispatch()
    assert seen == [1, 1]
    assert entries(consumer) == [1, 2]


@each_way
def test_a_message_that_kills_its_worker_is_dead_in_the_end(settings, consumer, event):
    """Rule O9: after MAX_ATTEMPTS crashes it waits for a person; the innocent are handled."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 1}, "MAX_ATTEMPTS": 3}
    Partition.objects.filter(queue=Queue.INBOX, number__gt=0).delete()
    deliver(*steps(event, 3), *steps(event, 3, "b"))

    def part(events):
        if any((each.order, each.number) == ("a", 2) for each in as_list(events)):
            crash()

    with playing(**{consumer: part}):
        for _ in range(1 + 3):
            with crashing():
                dispatch()
        dispatch()
    assert delivery_states(consumer, key="a") == ["done", "dead", "waiting"]
    assert (entries(consumer), entries(consumer, "b")) == ([1], [1, 2, 3])
    assert "the worker ended without warning" in delivery(consumer, 2, key="a").error


def test_after_a_crash_one_at_a_time_lasts_for_one_batch(settings):
    """What was to be found out is found out then."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 1}, "BATCH_SIZE": 3}
    Partition.objects.filter(queue=Queue.INBOX, number__gt=0).delete()
    deliver(*steps(Counted, 8))
    leave_token(Queue.INBOX)
    batches = []
    dispatch(progress=batches.append)
    assert batches == [1, 1, 1, 3, 2]


def test_a_consumer_with_one_attempt_makes_it_after_a_crash(one):
    """The crash was another's, for all we know."""
    deliver(*steps(Skipped, 2))
    leave_token(Queue.INBOX)
    dispatch()
    assert entries("skip") == [1, 2]


@each_way
def test_an_attempt_that_was_counted_but_not_made_keeps_its_place(one, consumer, event):
    """After a crash and an operator's visit a doubtful message still comes before its followers."""
    deliver(*steps(event, 3), *steps(event, 1, "b"))
    Delivery.objects.filter(pk=delivery(consumer, key="a").pk).update(attempts=1)
    dispatch()
    assert entries(consumer) == [1, 2, 3]
    assert entries(consumer, "b") == [1]


# Others at work


def test_what_was_read_ahead_is_dropped_when_somebody_else_was_there(one):
    """Order holds, and nothing is done twice, when another worker or an operator cut in."""
    deliver(*steps(Noted, 3))
    with striking("dispatch.after_commit", lambda: cut_in(Queue.INBOX)):
        assert dispatch().busy == 1
    dispatch()
    assert entries() == [1, 2, 3]


def cut_in(queue):
    """Be somebody else who takes the partitions."""
    Partition.objects.filter(queue=queue).update(run=uuid4(), last_run_at=None)


@each_way
def test_a_batch_is_not_committed_by_one_who_lost_the_partition(one, consumer, event):
    """The token is looked at in the transaction of the effects."""
    deliver(*steps(event, 3))
    select = dispatcher.statements.select_ready

    def select_and_lose(*arguments):
        rows = select(*arguments)
        transaction.on_commit(lambda: cut_in(Queue.INBOX))
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher.statements, "select_ready", select_and_lose)
        assert dispatch().busy >= 1
    assert entries(consumer) == []
    leave_token(Queue.INBOX)
    dispatch()
    assert entries(consumer) == [1, 2, 3]


@each_way
def test_a_message_that_was_discarded_meanwhile_is_not_handled(one, consumer, event):
    """An operator's decision holds against what a worker has read ahead."""
    deliver(*steps(event, 3))
    select = dispatcher.statements.select_ready

    def select_and_wait(*arguments):
        rows = select(*arguments)
        transaction.on_commit(discard_second)
        return rows

    def discard_second():
        with operator_lock(get_context("shop"), Queue.INBOX):
            delivery_rows = Delivery.objects.filter(message__payload__contains='"number":2,')
            delivery_rows.update(state="discarded")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher.statements, "select_ready", select_and_wait)
        dispatch()
    dispatch()
    assert entries(consumer) == [1, 3]


def test_a_handler_may_record_to_its_own_outbox(one):
    """In its transaction, so that a failure takes it back and a success sends it once."""
    deliver(*steps(Counted, 3))

    def part(event):
        record(Loose(order="a", number=event.number))
        failing(2)(event)

    with playing(count=part):
        dispatch()
    relay()
    dispatch()
    assert entries("loose") == [1]
    come_due()
    dispatch()
    relay()
    dispatch()
    assert entries("loose") == [1]
    assert entries("count") == [1, 2, 3]
