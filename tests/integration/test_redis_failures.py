"""``redis://`` when something is odd or fails: nothing is lost, repeated or blocked."""

import socket
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Partition, QuarantinedMessage, Queue
from outbox_inbox.transports import transport
from tests.shop.contracts import Sold
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    deliver,
    put,
    receive,
    relay,
    states,
    steps,
    striking,
)
from tests.support.outgoing import numbers, outgoing, publish, publish_numbers, read
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


# What is odd


def test_a_deleted_stream_is_made_again(bus, redis, stream, lost):
    """Redis came back empty, or a program deleted it: what comes next arrives, and the loss is announced."""
    depot = get_context("depot")
    publish(outgoing(1))
    assert read(bus) == [1]
    with bus.attached(depot):
        redis.delete(stream)
        assert bus.receive(depot, 10) == []
        publish(outgoing(2))
        assert len(bus.receive(depot, 10)) == 1
    assert ["its group depot is gone" in each for each in lost] == [True]


def test_a_deleted_group_is_made_again(bus, redis, stream, lost):
    """It begins with what is there; what it had already is dropped by its id."""
    deliver(*steps(Sold, 2))
    receive()
    redis.xgroup_destroy(stream, "depot")
    deliver(*steps(Sold, [3]))
    receive()
    assert numbers() == [1, 2, 3]
    assert len(lost) == 1


def test_an_entry_deleted_after_it_was_handed_out_is_told_of(bus, redis, stream, lost):
    """It is lost; the others arrive, and it does not come again for ever."""
    deliver(*steps(Sold, 3))
    with crashing(), striking("receive.after_read", crash):
        receive()
    second = redis.xrange(stream)[1][0]
    redis.xdel(stream, second)
    receive()
    assert numbers() == [1, 3]
    [place] = lost
    assert place.startswith(f"entry {second.decode()} of {stream}: it was deleted")
    assert redis.xpending(stream, "depot")["pending"] == 0


SOLD = {b"ce_specversion": b"1.0", b"ce_id": b"1", b"ce_source": b"/shop"}
SOLD |= {b"ce_type": b"shop.sold.v1", b"data": b'{"number":9,"order":"a"}'}
HOSTILE = [
    {b"data": b"{}"},
    {b"foo": b"bar"},
    {b"\xff\xfe": b"\xfd", b"data": b"\xff"},
    {b"ce_\xff": b"\xff", b"ce_id": b"\xff", b"ce_source": b"\xff\x00", b"ce_type": b"\xc3"},
    {**SOLD, b"ce_id": b"x" * 300, b"ce_type": b"\xff"},
    {**SOLD, b"data": b"\xff"},
    {**SOLD, b"ce_headers": b"\xff"},
    {**SOLD, b"ce_id": b"\xff"},
    {**SOLD, b"ce_time": b"\xff"},
]


def test_entries_that_others_wrote_are_kept_aside(bus, redis, stream):
    """Whatever their bytes: they block no other message, and come once."""
    publish(outgoing(1))
    for fields in HOSTILE:
        redis.xadd(stream, fields)
    publish(outgoing(2))
    receive()
    assert numbers() == [1, 2]
    assert QuarantinedMessage.objects.count() == len(HOSTILE)
    assert redis.xpending(stream, "depot")["pending"] == 0


def test_a_field_that_is_no_attribute_is_kept_with_the_message(bus, redis, stream):
    """An operator sees in the quarantine what was there."""
    redis.xadd(stream, {"foo": "bar", "ce_id": "1"})
    receive()
    kept = QuarantinedMessage.objects.get()
    assert kept.attributes == '{"field:foo": "bar", "id": "1"}'


# Outages


def through(proxy, url):
    """Return a URL through a proxy."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"127.0.0.1:{proxy.port}"))


@pytest.fixture
def proxy(redis_url, configure_redis):
    """A wire to the server that the test can cut."""
    with Proxy(urlsplit(redis_url).port or 6379) as found:
        configure_redis(through(found, redis_url), PUBLISH_TIMEOUT=timedelta(seconds=1))
        yield found


def test_an_answer_lost_after_arrival_is_an_outage_and_nothing_else(proxy, redis, stream):
    """The redis repeats nothing by itself; the relay does, and the inbox drops what came twice."""
    put(*steps(Sold, 3))
    with proxy.losing_answers(b"XADD"):
        relay()
    assert (redis.xlen(stream), states()) == (3, ["pending"] * 3)
    come_due()
    relay()
    assert (redis.xlen(stream), states()) == (6, ["sent"] * 3)
    receive()
    assert numbers() == [1, 2, 3]


def test_what_was_read_is_stored_although_the_rest_of_a_read_is_lost(proxy, redis, stream):
    """It does not come again; what the server had handed out with the rest comes first then."""
    deliver(*steps(Sold, 20))
    receive()
    deliver(*steps(Sold, range(21, 41)))
    transport.cache_clear()  # a new process, which reads two messages to learn how large they are
    kept = []
    with proxy.losing_answers(b"$3\r\n498\r\n"):
        receive(progress=kept.append)
    assert kept[0] == 2
    assert (proxy.lost, numbers()) == (1, [*range(1, 41)])
    assert redis.xpending(stream, "depot")["pending"] == 0


def test_a_server_that_says_nothing_is_given_up(proxy):
    """After PUBLISH_TIMEOUT, with one attempt; no message has failed."""
    deliver(*steps(Sold, 1))
    put(*steps(Sold, [2]))
    with proxy.hanging():
        assert relay().failed == 0
    partition = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert (partition.outages, states()) == (1, ["sent", "pending"])
    assert "Timeout" in partition.error
    come_due()
    relay()
    assert states() == ["sent", "sent"]


def test_a_server_that_answers_bit_by_bit_is_given_up(configure_redis):
    """The time-out is that of the whole publication, and not of each answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configure_redis(
            f"redis://127.0.0.1:{listener.getsockname()[1]}/0",
            PUBLISH_TIMEOUT=timedelta(milliseconds=200),
        )
        with dripping(listener), pytest.raises(TransportUnavailable, match="Timeout"):
            publish_numbers(1, 500)


@contextmanager
def dripping(listener):
    """Answer every 20 ms that something was queued, and say nothing else."""
    over = threading.Event()

    def drip():
        client, _ = listener.accept()
        with client, suppress(OSError):
            while not over.wait(0.02):
                client.sendall(b"+QUEUED\r\n")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_acknowledgement_whose_answer_was_lost_repeats_nothing(proxy):
    """It was stored, and may come again or not."""
    deliver(*steps(Sold, 2))
    with proxy.losing_answers(b"XACK"), pytest.raises(TransportUnavailable):
        receive()
    come_due()
    receive()
    assert numbers() == [1, 2]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(proxy):
    """An idle connection that a firewall or a restart has ended is not an outage."""
    deliver(*steps(Sold, 1))
    with proxy.cut():
        relay()
    deliver(*steps(Sold, [2]))
    assert states() == ["sent", "sent"]


def test_nobody_there_is_an_outage(configure_redis):
    """For all that is asked of it."""
    bus = configure_redis("redis://127.0.0.1:1/0")
    depot = get_context("depot")
    for ask in (
        lambda: publish(outgoing(1)),
        lambda: bus.has_messages(depot),
        lambda: read(bus),
        lambda: bus.wait_for_messages([depot], 1),
        lambda: list(bus.problems()),
    ):
        with pytest.raises(TransportUnavailable, match=r"127\.0\.0\.1:1/0 cannot be reached"):
            ask()


def test_a_key_of_another_type_is_an_outage(bus, redis, stream):
    """It is in the way of every message, and the fault of none."""
    redis.set(stream, "something else")
    put(*steps(Sold, 2))
    assert relay().failed == 0
    assert "WRONGTYPE" in Partition.objects.get(context="shop", queue=Queue.OUTBOX).error
    redis.delete(stream)
    come_due()
    relay()
    assert states() == ["sent", "sent"]
