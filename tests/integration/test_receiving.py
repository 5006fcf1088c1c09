"""The receiver: from a transport into an inbox, each message once and in order."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.utils import timezone

from outbox_inbox import IntegrationEvent
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError, TransportUnavailable
from outbox_inbox.inbox.admission import accept_message
from outbox_inbox.models import Delivery, InboxMessage, Partition, Queue
from outbox_inbox.operations import pause, prune, resume
from outbox_inbox.outbox.rows import hash_of
from outbox_inbox.queues import intake
from tests.shop.contracts import Sold
from tests.shop.events import Checked
from tests.support.arriving import Queued, arriving, bring, inbox
from tests.support.movers import (
    Worker,
    come_due,
    crash,
    crashing,
    dispatch,
    picks,
    put,
    receive,
    relay,
    steps,
    striking,
    together,
)
from tests.support.relaying import out_of_reach
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")

MEMORY = {"TRANSPORTS": {"default": "memory://"}}


@pytest.fixture
def memory(settings):
    """A broker in this process, which begins empty."""
    settings.OUTBOX_INBOX = MEMORY


@pytest.fixture
def wired(settings):
    """A transport that a test holds in its hands."""
    settings.OUTBOX_INBOX = WIRE


class Resold(IntegrationEvent, name="mall.resold", key="order"):
    """The depot's view of a contract whose context is not in this project."""

    order: str
    number: int


# End to end


def test_a_contract_goes_from_context_to_context(memory):
    """Recorded, translated, published, received, translated and handled."""
    put(*steps(Checked, 3))
    for _ in range(2):
        relay()
        dispatch()
    assert receive().done == 3
    dispatch("depot")
    assert (picks("pick"), picks("watch")) == ([1, 2, 3], [1, 2, 3])


def test_a_subscriber_that_comes_later_gets_everything(memory):
    """The log keeps what was published before the first receiver asked."""
    for number in range(1, 4):
        put(*steps(Sold, [number]))
        relay()
    receive()
    dispatch("depot")
    assert picks("watch") == [1, 2, 3]


def test_a_message_is_stored_as_it_was_sent(wired):
    """Byte for byte, with everything that belongs to it."""
    sent = arriving(1)
    bring(sent)
    row = InboxMessage.objects.get()
    assert (row.context, row.source) == ("depot", "shop")
    assert (row.type, row.schema_version) == ("shop.sold", 1)
    assert (row.payload.encode(), row.headers) == (sent.data, '{"who":"ÿ"}')
    assert (row.key, row.key_hash, row.hops) == ("a", hash_of("a", row.message_id), 3)
    assert (row.correlation_id, row.causation_id) == (UUID(int=77), UUID(int=78))
    assert row.recorded_at == datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)


def test_each_consumer_of_a_message_gets_a_delivery(wired):
    """One failing consumer will not be able to stop the others."""
    bring(arriving(1))
    assert set(Delivery.objects.values_list("consumer", "key", "state")) == {
        ("depot.inbound", "a", "ready"),
        ("depot.handlers.watch", "a", "ready"),
    }


def test_what_nobody_subscribed_to_is_acknowledged_and_dropped(wired):
    """Otherwise it would come again for ever."""
    queued = bring(arriving(1, type="shop.other"), arriving(2))
    assert inbox() == [2]
    assert queued.acknowledged == queued.messages


@pytest.fixture
def mall(settings, monkeypatch):
    """Let the depot listen to another context besides the shop, which is not in this project."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (Sold, Resold))
    settings.OUTBOX_INBOX = WIRE


def from_mall(number, **changed):
    """Return a message of the mall."""
    return arriving(number, source="/mall", type="mall.resold.v1", **changed)


def test_messages_of_several_sources_keep_their_order(mall):
    """They are stored as they came."""
    sources = ["shop", "mall", "shop", "shop", "mall"]
    made = [arriving(n) if source == "shop" else from_mall(n) for n, source in enumerate(sources)]
    bring(*made)
    rows = InboxMessage.objects.order_by("id")
    assert list(rows.values_list("source", flat=True)) == sources


def test_a_context_without_a_receiving_transport_receives_nothing():
    """``local://`` puts messages into the inbox itself."""
    assert receive().done == 0


# Once


def test_a_message_that_comes_again_is_dropped(wired):
    """Rule O7: within a batch as well as later, and each time it is acknowledged."""
    twice = arriving(1), arriving(1, receipt=2), arriving(2)
    again = arriving(2), arriving(3), arriving(1)
    for messages in (twice, again):
        assert bring(*messages).acknowledged == [*messages]
    assert inbox() == [1, 2, 3]
    dispatch("depot")
    assert picks("watch") == [1, 2, 3]


def test_an_id_counts_for_its_source_only(mall):
    """Two contexts may choose the same id, and neither loses a message by it."""
    bring(arriving(1), from_mall(1))
    assert inbox() == [1, 1]


def test_a_message_that_comes_again_after_its_deliveries_were_pruned_is_dropped(settings):
    """Rule O8: its id is remembered for DEDUPLICATION, longer than the delivery itself."""
    settings.OUTBOX_INBOX = {
        **WIRE,
        "RETENTION": timedelta(days=1),
        "DEDUPLICATION": timedelta(days=30),
    }
    bring(arriving(1))
    dispatch("depot")
    Delivery.objects.update(finished_at=timezone.now() - timedelta(days=2))
    InboxMessage.objects.update(received_at=timezone.now() - timedelta(days=2))
    prune([get_context("depot")])
    assert not Delivery.objects.filter(message__type="shop.sold").exists()
    bring(arriving(1))
    dispatch("depot")
    assert picks("watch") == [1]


def test_ids_are_not_forgotten_before_messages_can_come_again(settings):
    """Rule O8: settings that would forget sooner are refused."""
    settings.OUTBOX_INBOX = {"RETENTION": timedelta(days=7), "DEDUPLICATION": timedelta(days=6)}
    with pytest.raises(SettingsError, match="DEDUPLICATION"):
        receive()


def test_two_that_insert_the_same_message_at_once_store_it_once(settings):
    """Rule O7: the unique constraint decides, not a look before."""
    row = accept_message(get_context("depot"), arriving(1)).row

    def insert():
        with transaction.atomic():
            return intake.insert_messages([row], "depot", "shop", "default")

    assert sorted(together(insert, insert, insert)) == [0, 0, 1]
    assert Delivery.objects.count() == 2


# Confirmed after it is stored


def test_a_message_is_acknowledged_after_it_was_committed(wired):
    """Rule O4: who has been told that a message arrived will not send it again."""
    queued, seen = Queued(arriving(1)), []

    with Worker() as other:

        def acknowledge(context, messages):
            seen.append(other.do(inbox))
            queued.acknowledge(context, messages)

        with playing(receive=queued.receive, acknowledge=acknowledge):
            receive()
    assert seen == [[1]]


@pytest.mark.parametrize("point", ["receive.after_read", "receive.after_insert"])
def test_after_a_crash_before_the_commit_a_message_comes_again(memory, point):
    """Nothing was stored, and nothing acknowledged."""
    put(*steps(Sold, 2))
    relay()
    with crashing(), striking(point, crash):
        receive()
    assert not InboxMessage.objects.exists()
    receive()
    dispatch("depot")
    assert picks("watch") == [1, 2]


@pytest.mark.parametrize("point", ["receive.after_commit", "receive.after_ack"])
def test_after_a_crash_after_the_commit_nothing_is_stored_twice(memory, point):
    """What was not acknowledged comes again, and is known."""
    put(*steps(Sold, 2))
    relay()
    with crashing(), striking(point, crash):
        receive()
    put(*steps(Sold, [3]))
    relay()
    receive()
    dispatch("depot")
    assert picks("watch") == [1, 2, 3]


def test_what_was_not_acknowledged_comes_before_anything_new(memory):
    """Rule O4: otherwise a key's messages could change places."""
    put(*steps(Sold, 2))
    relay()
    with crashing(), striking("receive.after_read", crash):
        receive(limit=1)
    put(*steps(Sold, [3]))
    relay()
    receive()
    rows = InboxMessage.objects.order_by("id")
    assert [row.payload[10] for row in rows] == ["1", "2", "3"]


def test_a_transport_that_cannot_be_reached_is_an_error_of_the_call(wired):
    """Nothing is lost, and the receiver rests until the transport may be back."""
    queued = Queued(arriving(1))
    with playing(receive=out_of_reach), pytest.raises(TransportUnavailable):
        receive()
    with queued.playing():
        assert receive().done == 0
        come_due()
        assert receive().done == 1


def test_an_outage_of_the_receiver_is_seen_and_forgotten(wired):
    """The partition says why it rests, until something has come through again."""
    partition = Partition.objects.filter(context="depot", queue=Queue.INTAKE)
    for outages in (1, 2):
        with playing(receive=out_of_reach), pytest.raises(TransportUnavailable):
            receive()
        assert "no server answers" in partition.get().error
        assert partition.get().outages == outages
        come_due()
    bring(arriving(1))
    assert (partition.get().outages, partition.get().error) == (0, "")


def test_an_acknowledgement_that_fails_repeats_the_message_and_nothing_else(wired):
    """The message is stored; it comes again, and is dropped."""
    queued = Queued(arriving(1))
    part = playing(receive=queued.receive, acknowledge=out_of_reach)
    with part, pytest.raises(TransportUnavailable):
        receive()
    come_due()
    with queued.playing():
        receive()
    assert inbox() == [1]


# One at a time


@pytest.mark.postgres
def test_only_one_receives_at_a_time(wired):
    """Rule O4: two could store a key's messages in the wrong order."""
    queued, others = Queued(arriving(1)), []

    with Worker() as other:

        def while_another(context, limit):
            if not others:
                others.append(other.do(receive))
            return queued.receive(context, limit)

        with playing(receive=while_another, acknowledge=queued.acknowledge):
            receive()
    assert [(outcome.done, outcome.busy) for outcome in others] == [(0, 1)]


def test_receivers_at_once_store_everything_once_and_in_order(memory, settings):
    """The first receiver takes the next batch."""
    settings.OUTBOX_INBOX = {**MEMORY, "BATCH_SIZE": 4}
    for number in range(1, 41):
        put(*steps(Sold, [number]))
    relay()

    def work():
        while InboxMessage.objects.count() < 40:
            receive()

    together(work, work, work)
    rows = InboxMessage.objects.order_by("id")
    assert [row.payload for row in rows] == [f'{{"number":{n},"order":"a"}}' for n in range(1, 41)]


def test_a_paused_receiver_receives_nothing(memory):
    """Messages stay with the transport until it is resumed."""
    put(*steps(Sold, 1))
    relay()
    pause(get_context("depot"), Queue.INTAKE)
    assert receive().done == 0
    resume(get_context("depot"), Queue.INTAKE)
    assert receive().done == 1


def test_a_limit_is_kept(memory):
    """``limit`` counts messages."""
    put(*steps(Sold, 5))
    relay()
    assert receive(limit=2).done == 2
    assert receive().done == 3


def test_the_receiver_stops_between_batches_when_it_is_told_to(memory, settings):
    """What it has begun is finished."""
    settings.OUTBOX_INBOX = {**MEMORY, "BATCH_SIZE": 2}
    put(*steps(Sold, 5))
    relay()
    batches = []
    receive(progress=batches.append, stop=lambda: len(batches) == 2)
    assert batches == [2, 2]
    assert not connection.in_atomic_block
