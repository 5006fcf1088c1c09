"""``amqp://`` when the server, the wire or the process fails: nothing is lost, nothing hangs."""

import gc
import os
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from amqp import spec

from outbox_inbox.conf import TransportSettings
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxMessage, Partition, Queue
from outbox_inbox.transports import transport
from outbox_inbox.transports.amqp import AmqpTransport
from tests.shop.contracts import Sold
from tests.support.brokers import self_signed
from tests.support.movers import come_due, deliver, eventually, put, receive, relay, states, steps
from tests.support.outgoing import numbers, outgoing, publish, publish_numbers
from tests.support.rabbit import Wire, bodies, method, received, within

pytestmark = [pytest.mark.rabbitmq, pytest.mark.usefixtures("committed")]

HASTE = timedelta(seconds=1)
PATIENT = timedelta(seconds=20)
SLACK = 8.0  # seconds, on a busy machine


@pytest.fixture
def wire(broker, settings):
    """The shop and the depot talk through RabbitMQ, over a wire that can be cut."""
    with Wire(broker.url) as made:
        settings.OUTBOX_INBOX = {**broker.setting(made.url), "PUBLISH_TIMEOUT": PATIENT}
        yield made
        transport.cache_clear()
        gc.collect()  # what is left of connections ends before the wire does


@pytest.fixture
def hasty(wire, settings):
    """The same, and no call waits for longer than a second."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "PUBLISH_TIMEOUT": HASTE}
    return wire


def partition(queue=Queue.OUTBOX, label="shop"):
    """Return the state of a partition."""
    return Partition.objects.get(context=label, queue=queue)


@contextmanager
def saying(wire, frame):
    """Let the server fall silent, and only seem to say something after it was sent a message."""

    def say():
        eventually(lambda: b"cloudEvents:id" in wire.sent, "a message")
        wire.say(frame)

    wire.muted, wire.sent = True, b""
    thread = threading.Thread(target=say)
    thread.start()
    yield
    thread.join()
    wire.muted = False


# The wire


def test_a_connection_that_was_lost_in_between_is_replaced(wire):
    """Nothing had been sent on it, so nothing failed."""
    for number in (1, 2, 3):
        put(*steps(Sold, [number]))
        assert relay().done == 1
        wire.cut()
    assert receive().done == 3
    assert partition().error == ""


def test_a_batch_whose_confirmation_was_lost_is_sent_again_and_stored_once(hasty, broker):
    """It has arrived, and the relay does not know."""
    deliver(*steps(Sold, 1))
    put(*steps(Sold, [2, 3, 4]))
    hasty.muted = True
    assert within(1 + SLACK, relay).done == 0
    assert states() == ["sent", "pending", "pending", "pending"]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {0}
    assert "no answer within 1 s" in partition().error
    hasty.muted = False
    eventually(lambda: broker.ready() == 4, "the batch")
    put(*steps(Sold, [5]))
    come_due()
    assert relay().done == 4
    receive()
    assert numbers() == [1, 2, 3, 4, 5]


def test_what_was_confirmed_before_the_time_out_is_not_published_again(hasty, broker):
    """The relay marks it as sent, and publishes what is behind it only."""
    deliver(*steps(Sold, 1))  # the first message of the channel
    put(*steps(Sold, [2, 3, 4]))
    with saying(hasty, method(1, spec.Basic.Ack, "Lb", 3, True)):  # up to the third message
        relay()
    assert states() == ["sent", "sent", "sent", "pending"]
    come_due()
    assert relay().done == 1
    eventually(lambda: broker.ready() == 4 + 1, "the batch, and its last message once more")


def test_a_message_that_the_server_could_not_store_ends_what_was_confirmed(hasty):
    """It is published again, and so is what is behind it, although that was confirmed."""
    first = outgoing(1)
    publish(first)
    negative = method(1, spec.Basic.Nack, "Lb", 3, False)
    with saying(hasty, negative + method(1, spec.Basic.Ack, "Lb", 4, True)):
        published = publish_numbers(2, 4)
    assert (published.sent, published.refused) == ([2, 4], {})
    assert "could not store" in str(published.outage)


@pytest.mark.parametrize("begun", [False, True])
def test_a_server_that_hangs_is_given_up_in_time(hasty, begun):
    """Within PUBLISH_TIMEOUT, whether the connection was there before or not."""
    if begun:
        publish(outgoing(1))
        receive()
    hasty.stopped = True
    with pytest.raises(TransportUnavailable, match="no answer within 1 s"):
        within(1 + SLACK, lambda: publish(outgoing(2)))
    asks = [lambda: transport("default").has_messages(get_context("depot"))] if begun else []
    for ask in (
        *asks,
        lambda: transport("default").wait_for_messages([get_context("depot")], 1),
        lambda: list(transport("default").problems()),
        receive,
    ):
        with pytest.raises(TransportUnavailable):
            within(2 + SLACK, ask)


def test_heartbeats_are_no_answer(hasty):
    """A server that has run out of memory goes on sending them."""
    publish(outgoing(1))
    hasty.muted = True
    ended = threading.Event()

    def beat():
        while not ended.wait(0.1):
            hasty.say(b"\x08\x00\x00\x00\x00\x00\x00\xce")

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(TransportUnavailable, match="no answer within 1 s"):
            within(1 + SLACK, lambda: publish(outgoing(2)))
    finally:
        ended.set()
        thread.join()


def test_a_server_that_stops_in_the_middle_of_a_frame_is_given_up_in_time(hasty):
    """It is not asked again and again for the other half."""
    publish(outgoing(1))
    hasty.muted = True
    hasty.say(b"\x01\x00\x01")
    with pytest.raises(TransportUnavailable, match="no answer within 1 s"):
        within(1 + SLACK, lambda: publish(outgoing(2)))


def test_a_server_out_of_memory_is_named(hasty):
    """It says so, and takes nothing until it has memory again."""
    publish(outgoing(1))
    blocked = method(0, spec.Connection.Blocked, "s", "low on memory")
    with saying(hasty, blocked), pytest.raises(TransportUnavailable, match="memory or disk"):
        within(1 + SLACK, lambda: publish(outgoing(2)))


def test_a_message_that_the_server_could_not_keep_is_an_outage(wire):
    """basic.nack means an error inside of RabbitMQ: no message's fault, so no attempt."""
    publish(outgoing(1))
    nack = method(1, spec.Basic.Nack, "Lbb", 2, False, False)
    with saying(wire, nack), pytest.raises(TransportUnavailable, match="could not store"):
        publish(outgoing(2))
    assert list(publish(outgoing(2)).sent) == [2]


@pytest.mark.parametrize("known", [True, False])
def test_a_message_larger_than_the_server_takes_stops_no_other(wire, known):
    """RabbitMQ closes the channel; from then on its limit is known, and only that is refused."""
    publish(outgoing(1))
    if not known:
        transport("default")._publisher._session.routed.clear()
    put(Sold(order="a", number=2), Sold(order="c" * 90, number=2), Sold(order="b", number=2))
    why = "PRECONDITION_FAILED - message size 113 is larger than configured max size 50"
    closed = method(1, spec.Channel.Close, "BsBB", 406, why, *spec.Basic.Publish)
    with saying(wire, closed + method(1, spec.Channel.OpenOk, "S", "")):
        assert relay().done == 0
    assert "max size 50" in partition().error
    come_due()
    outcome = relay()
    assert (outcome.done, outcome.failed) == (2, 1)
    (refused,) = OutboxMessage.objects.filter(state="pending")
    assert "this RabbitMQ accepts 50" in refused.error
    assert refused.attempts == 1


def test_nobody_at_home_is_an_outage(broker, settings):
    """Recording works, the outbox backs off, and afterwards everything arrives."""
    with Wire(broker.url) as closed:
        url = closed.url
    settings.OUTBOX_INBOX = broker.setting(url)
    put(*steps(Sold, 2))
    assert relay().done == 0
    with pytest.raises(TransportUnavailable):
        receive()
    assert states() == ["pending", "pending"]
    assert partition().error
    settings.OUTBOX_INBOX = broker.setting()
    come_due()
    relay()
    receive()
    assert numbers() == [1, 2]


@pytest.mark.parametrize("url", ["amqp://guest:s3cr3t@{}", "amqp://s3cr3t:guest@{}"])
def test_a_wrong_login_is_told_without_the_login(broker, settings, url):
    """The text gets into the database, the admin and the logs."""
    settings.OUTBOX_INBOX = broker.setting(url.format(broker.url.rpartition("@")[2]))
    deliver(*steps(Sold, 1))
    assert "ACCESS_REFUSED" in partition().error
    assert "s3cr3t" not in partition().error
    assert "s3cr3t" not in repr(vars(transport("default")))


# The receiver


def test_a_receiver_that_loses_its_connection_gets_everything_again(wire):
    """In order, and once."""
    deliver(*steps(Sold, 5))
    depot = get_context("depot")
    with transport("default").attached(depot):
        assert bodies(received(depot, 2)) == [1, 2]
        wire.cut()
        with pytest.raises(TransportUnavailable):
            received(depot, 2)
    eventually(lambda: receive().done, "the messages")
    assert numbers() == [1, 2, 3, 4, 5]


def test_an_acknowledgement_that_is_lost_repeats_nothing(wire):
    """The messages come again, and are known."""
    deliver(*steps(Sold, 2))
    depot = get_context("depot")
    with transport("default").attached(depot):
        found = received(depot, 2)
        wire.cut()
        with pytest.raises(TransportUnavailable):
            transport("default").acknowledge(depot, found)
    eventually(lambda: receive().done, "the messages")
    assert numbers() == [1, 2]


def test_a_frozen_process_loses_its_place(broker, settings):
    """The server misses its heartbeats, and lets another one in, who gets all that was left."""
    depot = get_context("depot")
    with Wire(broker.url) as wire:
        entry = broker.setting(wire.url, HEARTBEAT=HASTE)["TRANSPORTS"]["default"]
        frozen = AmqpTransport(
            TransportSettings(backend="", location=entry["LOCATION"], options=entry["OPTIONS"])
        )
        settings.OUTBOX_INBOX = broker.setting()
        publish_numbers(1, 3)
        with frozen.attached(depot):
            assert bodies(frozen.receive(depot, 2)) == [1, 2]
            wire.stopped = True
            assert receive().done == 0
            assert eventually(lambda: receive().done, "the place") == 3
            wire.stopped = False
            with pytest.raises(TransportUnavailable):
                eventually(lambda: frozen.acknowledge(depot, frozen.receive(depot, 2)), "an error")
    assert numbers() == [1, 2, 3]


def test_a_queue_that_is_deleted_under_a_receiver_is_an_outage(wire, broker):
    """The next receiver that attaches makes it again."""
    depot = get_context("depot")
    publish(outgoing(1))
    with transport("default").attached(depot):
        assert bodies(received(depot, 2)) == [1]
        broker.channel.queue_delete(broker.queue())
        with pytest.raises(TransportUnavailable):
            eventually(lambda: not received(depot, 2), "an error")
    assert receive().done == 0
    assert broker.ready() == 0


# What is there already


def test_a_queue_of_another_sort_is_an_error_that_says_what_to_do(wire, broker):
    """Neither side may guess."""
    broker.channel.queue_declare(broker.queue(), durable=True, auto_delete=False)
    deliver(*steps(Sold, 1))
    assert "exists already with other arguments" in partition().error
    assert "QUEUE_PREFIX" in partition().error
    with pytest.raises(TransportUnavailable, match="exists already with other arguments"):
        receive()
    (problem,) = transport("default").problems()
    assert "exists already with other arguments" in problem


def test_an_exchange_of_another_sort_is_an_error_that_says_what_to_do(wire, broker):
    """A fanout exchange would send everything to all queues."""
    broker.channel.exchange_declare(broker.exchange(), "fanout", durable=True, auto_delete=False)
    with pytest.raises(TransportUnavailable, match="not a durable topic exchange"):
        publish(outgoing(1))


def test_an_exchange_that_was_deleted_is_made_again(wire, broker):
    """With the next attempt."""
    publish(outgoing(1))
    broker.channel.exchange_delete(broker.exchange())
    with pytest.raises(TransportUnavailable, match="NOT_FOUND"):
        publish(outgoing(2))
    assert list(publish(outgoing(2)).sent) == [2]


def test_a_queue_of_an_older_server_is_used_as_it_is(wire, broker, monkeypatch):
    """RabbitMQ 4 would be asked never to drop what comes back often; 3 does not need it."""
    publish(outgoing(1))
    monkeypatch.setattr("outbox_inbox.transports.amqp.connection.Connection.version", (4, 1, 0))
    transport.cache_clear()
    assert list(publish(outgoing(2)).sent) == [2]
    assert receive().done == 2


def test_a_server_that_is_as_it_should_be_has_no_problems(wire):
    """Neither before the first message nor after it."""
    assert list(transport("default").problems()) == []
    publish(outgoing(1))
    assert list(transport("default").problems()) == []


def test_a_server_without_quorum_queues_gets_classic_ones_and_is_named(wire, broker, monkeypatch):
    """RabbitMQ before 3.8."""
    monkeypatch.setattr("outbox_inbox.transports.amqp.connection.Connection.version", (3, 7, 28))
    publish(outgoing(1))
    (problem,) = transport("default").problems()
    assert "3.7.28 has no quorum queues" in problem
    arguments = {"x-queue-type": "classic", "x-single-active-consumer": True}
    broker.channel.queue_declare(
        broker.queue(), durable=True, auto_delete=False, arguments=arguments
    )


# The process


def test_a_forked_process_has_a_connection_of_its_own(broker, settings):
    """What it does, and its end, leave the parent's alone."""
    settings.OUTBOX_INBOX = broker.setting()
    depot = get_context("depot")
    publish(outgoing(1))
    with transport("default").attached(depot):
        assert bodies(received(depot, 1)) == [1]
        child = os.fork()
        if child == 0:  # pragma: no cover  it is another process
            status = 1
            try:
                transport("default").has_messages(depot)
                status = 0 if list(publish(outgoing(2)).sent) == [2] else 2
                transport.cache_clear()
                gc.collect()
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        first = received(depot, 1)
        transport("default").acknowledge(depot, first)
        second = eventually(lambda: received(depot, 5), "the child's message")
        assert bodies([*first, *second]) == [1, 2]
    assert list(publish(outgoing(3)).sent) == [3]


def test_a_connection_that_the_server_must_have_dropped_is_not_tried(wire):
    """Nothing was said on it for longer than the server bears."""
    publish(outgoing(1))
    before = wire.connections
    transport("default")._publisher._reconnector._used = float("-inf")
    publish(outgoing(2))
    assert wire.connections == before + 1


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that signs itself, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "both.pem"
    made = self_signed(folder, "DNS:localhost")
    path.write_text("".join(each.read_text() for each in made))
    return str(path)


def secure(wire, host):
    """Return the URL of a wire for TLS."""
    return wire.url.replace("amqp://", "amqps://").replace("127.0.0.1", host)


def test_amqps_is_the_same_over_tls(broker, settings, certificate):
    """With a certificate that OPTIONS say to trust."""
    with Wire(broker.url, certificate) as wire:
        url = secure(wire, "localhost")
        settings.OUTBOX_INBOX = broker.setting(url, SSL={"ca_certs": certificate})
        deliver(*steps(Sold, 3))
        receive()
        transport.cache_clear()
        gc.collect()
    assert numbers() == [1, 2, 3]


@pytest.mark.parametrize(
    ("host", "options"),
    [("localhost", {}), ("127.0.0.1", {"ca_certs": ...})],
    ids=["an unknown authority", "another name"],
)
def test_amqps_talks_to_nobody_it_cannot_verify(broker, settings, certificate, host, options):
    """Neither to a stranger, nor to one with the certificate of another."""
    trusted = dict.fromkeys(options, certificate)
    with Wire(broker.url, certificate) as wire:
        settings.OUTBOX_INBOX = broker.setting(secure(wire, host), SSL=trusted)
        with pytest.raises(TransportUnavailable, match=r"(?i)certificate"):
            publish(outgoing(1))


def test_a_switch_of_the_settings_leaves_no_connection_open(wire, broker, settings):
    """The transport of before is forgotten, and so are its connections."""
    publish(outgoing(1))
    connection = transport("default")._publisher._reconnector._connection
    assert connection.connected
    settings.OUTBOX_INBOX = broker.setting()
    gc.collect()
    assert not connection.connected
