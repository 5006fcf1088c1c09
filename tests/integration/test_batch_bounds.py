"""Batches are bounded in bytes as well as in rows; what was confirmed before a time-out is kept."""

import pytest

from outbox_inbox import signals
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable
from outbox_inbox.models import InboxMessage, OutboxMessage, StoredEvent
from outbox_inbox.queues import statements
from outbox_inbox.transports import Published
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.arriving import Queued, arriving, inbox
from tests.support.movers import come_due, heard, put, receive, relay, steps
from tests.support.relaying import number_of, out_of_reach, partition, sold
from tests.support.rows import outbox_message
from tests.support.script import playing
from tests.support.wire import WIRE, confirmed, take_all

pytestmark = pytest.mark.usefixtures("committed")

HALF = 1_600_000  # bytes: more than half of what a batch carries within the default time-out
STREAM = {**WIRE, "CONTEXTS": {"shop": {"source": "stream"}}}
SOURCES = [
    pytest.param(WIRE, id="outbox"),
    pytest.param(STREAM, id="stream", marks=pytest.mark.catch_up),
]


@pytest.fixture(params=SOURCES)
def source(request, log, settings):
    """A transport in the test's hands, for an outbox and for a stream as the source."""
    settings.OUTBOX_INBOX = {**request.param, "MAX_PAYLOAD": 4_000_000}
    return log


class Batches:
    """Confirms everything, or what a test wants, and remembers the numbers of each batch."""

    def __init__(self, *answers):
        self.numbers = []
        self._answers = list(answers)

    def publish(self, messages):
        """Answer as the next of the answers does."""
        self.numbers.append([number_of(message) for message in messages])
        return self._answers.pop(0)(messages) if self._answers else take_all(messages)


def large(*numbers, order="a", size=HALF):
    """Record contracts with a large payload."""
    put(*[Sold(order=order + "x" * size, number=number) for number in numbers], key=order)


def confirming(*numbers, refused=()):
    """Return an answer: the time is over, and these messages were confirmed before."""

    def publish(messages):
        return Published(
            sent=[each.row for each in messages if number_of(each) in numbers],
            refused={
                each.row: MessageRefused("not this one")
                for each in messages
                if number_of(each) in refused
            },
            outage=TransportUnavailable("no answer in time"),
        )

    return publish


def relay_batches(*answers):
    """Relay; return the numbers of the messages of each batch."""
    batches = Batches(*answers)
    with playing(publish=batches.publish):
        relay()
    return batches.numbers


# What a batch carries


def test_messages_that_are_large_together_are_sent_in_several_batches(source):
    """In order; each is published once."""
    large(1, 2, 3)
    assert relay_batches() == [[1], [2], [3]]
    assert source.of("a") == [1, 2, 3]


def test_small_messages_are_sent_together_in_spite_of_a_large_one(source):
    """A batch ends where the next message would be too much."""
    sold(1, 2)
    large(3)
    sold(4)
    large(5)
    sold(6)
    assert relay_batches() == [[1, 2, 3, 4], [5, 6]]


def test_a_message_that_is_too_large_for_any_batch_is_sent_alone(source):
    """What the transport can carry is not for the relay to decide."""
    sold(1)
    large(2, size=3_900_000)
    sold(3)
    assert relay_batches() == [[1], [2], [3]]


def test_the_text_of_a_large_message_arrives_whole(source):
    """It is read apart from the small ones, and belongs to the same message."""
    large(1, 2)
    relay()
    assert source.of("a") == [1, 2]
    assert {len(message.data) for message in confirmed} == {HALF + len('{"number":1,"order":"a"}')}


@pytest.mark.catch_up
def test_the_text_of_a_large_event_is_not_that_of_a_message_with_its_number(log, settings):
    """The outbox counts its messages, and the stream its events: equal numbers mean nothing."""
    settings.OUTBOX_INBOX = {**STREAM, "MAX_PAYLOAD": 4_000_000}
    large(1)
    outbox_message(pk=StoredEvent.objects.get().pk, state="sent")
    relay()
    assert [len(message.data) for message in confirmed] == [HALF + len('{"number":1,"order":"a"}')]


def test_a_batch_does_not_read_the_texts_that_it_does_not_send(source):
    """At every try most of a large backlog would be read, and thrown away."""
    large(*range(1, 9), size=400_000)
    given, read = [], statements.select_texts

    def noting(*arguments, **options):
        texts = read(*arguments, **options)
        given.append(len(texts))
        return texts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "select_texts", noting)
        with playing(publish=out_of_reach):
            relay()
    assert given == [7]


def test_domain_events_take_no_room_in_a_batch(source):
    """No transport carries them."""
    put(*[Noted(order="y" * HALF, number=number) for number in (1, 2)], key="b")
    large(3)
    assert relay_batches() == [[3]]
    assert inbox(context="shop") == inbox() != []


def test_a_limit_of_rows_holds_as_before(source, settings):
    """Small messages are bounded by BATCH_SIZE alone."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": 2}
    sold(1, 2, 3)
    assert relay_batches() == [[1, 2], [3]]


def test_a_copy_to_another_database_is_bounded_as_well(settings):
    """It carries the texts from one connection to another."""
    settings.OUTBOX_INBOX = {
        "CONTEXTS": {"depot": {"database": "other"}},
        "MAX_PAYLOAD": 4_000_000,
    }
    large(1, 2, 3)
    with heard(signals.message_sent) as batches:
        relay()
    assert [batch["count"] for batch in batches] == [1, 1, 1]
    assert InboxMessage.objects.using("other").filter(context="depot").count() == 3


# After a time-out


def test_a_batch_after_an_outage_is_half_as_large(source, settings):
    """Down to one message, and as large as before after batches that went through."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "BATCH_SIZE": 4}
    sold(*range(1, 21))
    tries = []
    for _ in range(4):
        tries += relay_batches(out_of_reach)
        come_due()
    tries += relay_batches()
    assert [len(batch) for batch in tries] == [4, 2, 1, 1, 1, 1, 2, 4, 4, 4, 4]


def test_what_was_confirmed_before_a_time_out_is_not_sent_again(source):
    """It is marked as sent with the commit, and the relay goes on behind it."""
    sold(1, 2, 3, 4)
    assert relay_batches(confirming(1, 2)) == [[1, 2, 3, 4], [3, 4]]
    assert source.of("a") == [1, 2, 3, 4]


def test_what_was_confirmed_behind_an_open_message_is_sent_again(source):
    """The open one may have been lost, and would come behind it (rule O3)."""
    sold(1, 2, 3)
    assert relay_batches(confirming(1, 3)) == [[1, 2, 3], [2, 3]]


def test_an_outage_before_the_first_confirmation_changes_nothing(source):
    """The partition backs off, and no attempt is counted."""
    sold(1, 2)
    assert relay_batches(confirming(2)) == [[1, 2]]
    assert partition().outages == 1
    come_due()
    assert relay_batches() == [[1, 2]]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) <= {0}


def test_a_refusal_before_a_time_out_is_kept(source):
    """Its followers wait with it, and are not taken for open ones; the other keys go on."""
    sold(1, 2)
    sold(3, 4, order="b")
    assert relay_batches(confirming(3, refused=[1]))[:2] == [[1, 2, 3, 4], [4]]
    assert source.of("b") == [3, 4]


def test_a_message_before_a_refused_one_of_its_key_may_be_open(source):
    """Nothing is known of it, so it has not failed; both are published again."""
    sold(1, order="b")
    sold(2, 3)
    assert relay_batches(confirming(1, refused=[3]))[:2] == [[1, 2, 3], [2, 3]]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) <= {0}


def test_a_domain_event_in_front_takes_back_no_confirmation(source):
    """No transport confirms it, and it is not what the outage has left open."""
    put(*steps(Noted, [9], "b"))
    sold(1, 2)
    assert relay_batches(confirming(1)) == [[1, 2], [2]]


def test_domain_events_behind_an_open_message_stay(source):
    """The batch ends there; they are moved with the next one, once."""
    sold(1, 2)
    put(*steps(Noted, [3]))
    assert relay_batches(confirming(1)) == [[1, 2], [2]]
    assert len(inbox(context="shop")) == 1


# Receiving


def test_a_receiver_asks_for_half_as_many_after_an_outage(log, settings):
    """What it could not read in time it could not read the next time."""
    settings.OUTBOX_INBOX = {**WIRE, "BATCH_SIZE": 8}
    asked, queued = [], Queued(*map(arriving, range(1, 9)))

    def read(context, limit):
        if context.label != "depot":
            return ()
        asked.append(limit)
        return out_of_reach() if len(asked) <= 2 else queued.receive(context, limit)

    with playing(receive=read, acknowledge=queued.acknowledge):
        for _ in range(2):
            with pytest.raises(TransportUnavailable):
                receive()
            come_due()
        receive()
    assert asked[:5] == [8, 4, 2, 4, 8]
    assert len(inbox(context="depot")) == 8
