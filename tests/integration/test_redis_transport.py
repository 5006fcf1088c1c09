"""``redis://`` on a real server: the format, the order, and what happens when something is odd."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import pytest
from django.apps import apps

from outbox_inbox import signals
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError, TransportUnavailable
from outbox_inbox.models import InboxMessage, Partition, QuarantinedMessage, Queue
from outbox_inbox.transports import transport
from outbox_inbox.transports.redis import trimmer
from tests import services
from tests.conftest import need
from tests.shop.contracts import Sold
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    dispatch,
    picks,
    put,
    receive,
    relay,
    states,
    steps,
    striking,
)
from tests.support.outgoing import outgoing
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


@pytest.fixture
def redis_url():
    """The URL of a Redis that answers; not emptied, since each test has streams of its own."""
    return need(services.REDIS)


@pytest.fixture
def client(redis_url):
    """A client of the test's own."""
    import redis

    with redis.Redis.from_url(redis_url, protocol=2) as found:
        yield found


@pytest.fixture
def prefix(client):
    """The beginning of the names of this test's streams; they are deleted after it."""
    found = f"test-{uuid4().hex}"
    yield found
    for name in client.scan_iter(f"{found}*"):
        client.delete(name)


@pytest.fixture
def stream(prefix):
    """The name of the shop's stream."""
    return f"{prefix}:shop"


@pytest.fixture
def configure(settings, redis_url, prefix):
    """Let the contexts talk through Redis, and return the transport."""

    def configured(location=redis_url, *, options=None, **changed):
        entry = {"LOCATION": location, "OPTIONS": {"PREFIX": prefix, **(options or {})}}
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}, **changed}
        return transport("default")

    return configured


@pytest.fixture
def bus(configure):
    """The transport, as it is without options."""
    return configure()


@pytest.fixture
def lost():
    """What was announced as lost during a test."""
    found = []

    def note(sender, place, error, **_):
        found.append(f"{place}: {error}")

    signals.message_lost.connect(note)
    yield found
    signals.message_lost.disconnect(note)


def publish(*messages):
    """Publish messages of the shop."""
    return transport("default").publish(get_context("shop"), messages)


def batch(first, last):
    """Return numbered messages."""
    return [outgoing(number) for number in range(first, last + 1)]


def numbers():
    """Return the steps in the depot's inbox, in order."""
    rows = InboxMessage.objects.filter(context="depot", type="shop.sold").order_by("id")
    return [int(each[10 : each.index(",")]) for each in rows.values_list("payload", flat=True)]


def read(bus, context, limit=100):
    """Receive and acknowledge as a context, without its inbox; return the ids."""
    with bus.attached(context):
        found = bus.receive(context, limit)
        if found:
            bus.acknowledge(context, found)
    return [UUID(message.attributes["id"]).int for message in found]


# The format


def test_an_entry_holds_each_attribute_and_the_payload_byte_for_byte(bus, client, stream):
    """In this order; whatever reads CloudEvents from Redis can rely on it."""
    data = '{"number":1,"order":"ÄÖ"}'
    publish(
        outgoing(
            1,
            key="ÄÖ",
            causation_id=UUID(int=78),
            hops=3,
            headers='{"traceparent":"00-1","who":"ÿ"}',
            data=data,
        )
    )
    [(_, entry)] = client.xrange(stream)
    assert list(entry.items()) == [
        (b"ce_specversion", b"1.0"),
        (b"ce_id", b"00000000-0000-0000-0000-000000000001"),
        (b"ce_source", b"/shop"),
        (b"ce_type", b"shop.sold.v1"),
        (b"ce_time", b"2030-01-02T03:04:05.678000Z"),
        (b"ce_datacontenttype", b"application/json"),
        (b"ce_correlationid", b"00000000-0000-0000-0000-00000000004d"),
        (b"ce_subject", "ÄÖ".encode()),
        (b"ce_partitionkey", "ÄÖ".encode()),
        (b"ce_causationid", b"00000000-0000-0000-0000-00000000004e"),
        (b"ce_hops", b"3"),
        (b"ce_headers", '{"traceparent":"00-1","who":"ÿ"}'.encode()),
        (b"ce_traceparent", b"00-1"),
        (b"data", data.encode()),
    ]


def test_a_message_arrives_as_it_was_recorded(bus):
    """With everything that belongs to it, through both outbox and inbox."""
    (envelope,) = put(*steps(Sold, 1), headers={"who": "ÿ"})
    relay()
    receive()
    row = InboxMessage.objects.get(context="depot", type="shop.sold")
    assert (row.message_id, row.payload, row.headers) == (envelope.id, envelope.data, '{"who":"ÿ"}')
    assert (row.source, row.key, row.recorded_at) == ("shop", "a", envelope.time)
    assert (row.correlation_id, row.causation_id) == (envelope.correlation_id, None)


def test_messages_keep_their_order(configure, client, stream):
    """Within a batch and from batch to batch, from the outbox to the handler."""
    configure(BATCH_SIZE=3)
    put(*steps(Sold, 10))
    relay()
    assert client.xlen(stream) == 10
    receive()
    dispatch("depot")
    assert numbers() == picks("watch") == list(range(1, 11))


def test_each_partition_of_an_outbox_has_a_stream(configure, client, prefix):
    """The first has the name of the context, the others its number as well."""
    bus = configure()
    publish(outgoing(1), outgoing(2, partition=3))
    assert sorted(client.scan_iter(f"{prefix}*")) == [
        f"{prefix}:shop".encode(),
        f"{prefix}:shop:3".encode(),
    ]
    assert sorted(read(bus, get_context("depot"))) == [1, 2]


def test_a_stream_that_comes_later_is_found(bus):
    """The publisher has got more partitions; nobody tells the subscriber."""
    depot = get_context("depot")
    publish(outgoing(1))
    assert read(bus, depot) == [1]
    assert not bus.has_messages(depot)
    publish(outgoing(2, partition=7))
    assert bus.has_messages(depot)
    assert read(bus, depot) == [2]
    assert not bus.has_messages(depot)


# Reading


def test_a_limit_counts_the_messages_of_all_streams(bus):
    """A stream that has more takes what is left; a limit below the number of streams works."""
    depot = get_context("depot")
    publish(*batch(1, 9), *(outgoing(10 + number, partition=number) for number in range(1, 4)))
    assert len(read(bus, depot, 1)) == 1
    assert len(read(bus, depot, 2)) == 2
    assert len(read(bus, depot, 8)) == 8
    assert len(read(bus, depot, 8)) == 1
    assert not bus.has_messages(depot)


def test_what_is_pending_comes_again_while_it_is_not_acknowledged(bus):
    """Before anything new, and in its place."""
    depot = get_context("depot")
    publish(*batch(1, 3))
    with bus.attached(depot):
        first = bus.receive(depot, 2)
        again = bus.receive(depot, 2)
        assert [each.receipt for each in first] == [each.receipt for each in again]
        bus.acknowledge(depot, first)
        assert [UUID(each.attributes["id"]).int for each in bus.receive(depot, 2)] == [3]


@pytest.mark.parametrize("point", ["receive.after_read", "receive.after_commit"])
def test_what_a_crashed_receiver_had_read_comes_first(bus, client, stream, point):
    """Rule O4: once, in order, and acknowledged in the end."""
    put(*steps(Sold, 2))
    relay()
    with crashing(), striking(point, crash):
        receive()
    put(*steps(Sold, [3]))
    relay()
    receive()
    assert numbers() == [1, 2, 3]
    assert client.xpending(stream, "depot")["pending"] == 0


def test_a_crashed_receiver_with_several_streams_loses_no_place(bus):
    """More streams than one read takes: pending entries of each come before its new ones."""
    depot = get_context("depot")
    for number in range(1, 5):
        publish(outgoing(number, partition=number), outgoing(10 + number, partition=number))
    with bus.attached(depot):
        bus.receive(depot, 4)
    found = [number for _ in range(8) for number in read(bus, depot, 1)]
    assert sorted(found) == [1, 2, 3, 4, 11, 12, 13, 14]
    assert all(found.index(number) < found.index(10 + number) for number in range(1, 5))


def test_each_subscriber_gets_every_message(bus):
    """One that is slow, or comes late, has its own place."""
    depot, late = get_context("depot"), replace(get_context("depot"), label="late")
    publish(*batch(1, 3))
    assert read(bus, depot) == [1, 2, 3]
    publish(outgoing(4))
    assert read(bus, late, 2) == [1, 2]
    assert read(bus, depot) == [4]
    assert read(bus, late) == [3, 4]


def test_an_idle_look_is_cheap_and_right(bus):
    """One round trip; true before the group is there, and while something is pending."""
    depot = get_context("depot")
    assert bus.has_messages(depot)
    assert read(bus, depot) == []
    assert not bus.has_messages(depot)
    publish(outgoing(1))
    assert bus.has_messages(depot)
    with bus.attached(depot):
        bus.receive(depot, 1)
    assert bus.has_messages(depot)
    assert read(bus, depot) == [1]
    assert not bus.has_messages(depot)


def test_an_idle_look_is_right_where_the_server_cannot_count(bus, client, stream):
    """Entries deleted from the middle of a stream leave its lag unknown."""
    depot = get_context("depot")
    publish(*batch(1, 4))
    assert read(bus, depot, 1) == [1]
    third = client.xrange(stream)[2][0]
    client.xdel(stream, third)
    [group] = client.xinfo_groups(stream)
    assert group["lag"] is None
    assert bus.has_messages(depot)
    assert read(bus, depot) == [2, 4]
    assert not bus.has_messages(depot)


# Waiting


def test_waiting_ends_with_a_message_that_came_before_it_began(bus):
    """Nothing that comes between a look and the wait is slept through."""
    depot = get_context("depot")
    read(bus, depot)
    publish(outgoing(1))
    assert bus.wait_for_messages([depot], 60)


def test_waiting_tells_of_a_message_once(bus):
    """Also while nobody reads it: a paused partition keeps no process busy."""
    depot = get_context("depot")
    publish(*batch(1, 3))
    assert bus.wait_for_messages([depot], 60)
    assert not bus.wait_for_messages([depot], 0.05)
    publish(outgoing(4))
    assert bus.wait_for_messages([depot], 60)
    assert read(bus, depot) == [1, 2, 3, 4]
    assert not bus.wait_for_messages([depot], 0.05)


def test_waiting_lasts_longer_than_an_answer_may_take(configure):
    """It is no outage that nothing comes."""
    bus = configure(PUBLISH_TIMEOUT=timedelta(milliseconds=100))
    assert not bus.wait_for_messages([get_context("depot")], 0.4)


def test_waiting_begins_again_with_a_stream_that_was_lost(bus, client, stream):
    """Its new entries may have smaller ids than the old ones had."""
    depot = get_context("depot")
    client.xadd(stream, {"data": "x"}, id="9999999999999-0")
    assert bus.wait_for_messages([depot], 60)
    client.delete(stream)
    publish(outgoing(1))
    assert bus.wait_for_messages([depot], 60)


# What is odd


def test_a_deleted_stream_is_made_again(bus, client, stream, lost):
    """Redis came back empty, or somebody deleted it: what comes next arrives, and it is told."""
    depot = get_context("depot")
    publish(outgoing(1))
    assert read(bus, depot) == [1]
    with bus.attached(depot):
        client.delete(stream)
        assert bus.receive(depot, 10) == []
        publish(outgoing(2))
        assert len(bus.receive(depot, 10)) == 1
    assert ["its group depot is gone" in each for each in lost] == [True]


def test_a_deleted_group_is_made_again(bus, client, stream, lost):
    """It begins with what is there; what it had already is dropped by its id."""
    put(*steps(Sold, 2))
    relay()
    receive()
    client.xgroup_destroy(stream, "depot")
    put(*steps(Sold, [3]))
    relay()
    receive()
    assert numbers() == [1, 2, 3]
    assert len(lost) == 1


def test_an_entry_deleted_after_it_was_handed_out_is_told_of(bus, client, stream, lost):
    """It is lost; the others arrive, and it does not come again for ever."""
    put(*steps(Sold, 3))
    relay()
    with crashing(), striking("receive.after_read", crash):
        receive()
    second = client.xrange(stream)[1][0]
    client.xdel(stream, second)
    receive()
    assert numbers() == [1, 3]
    [told] = lost
    assert told.startswith(f"entry {second.decode()} of {stream}: it was deleted")
    assert client.xpending(stream, "depot")["pending"] == 0


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


def test_entries_that_others_wrote_are_kept_aside(bus, client, stream):
    """Whatever their bytes: they stop nobody, and come once."""
    publish(outgoing(1))
    for fields in HOSTILE:
        client.xadd(stream, fields)
    publish(outgoing(2))
    receive()
    assert numbers() == [1, 2]
    assert QuarantinedMessage.objects.count() == len(HOSTILE)
    assert client.xpending(stream, "depot")["pending"] == 0


def test_a_field_that_is_no_attribute_is_kept_with_the_message(bus, client, stream):
    """Whoever looks into the quarantine sees what was there."""
    client.xadd(stream, {"foo": "bar", "ce_id": "1"})
    receive()
    kept = QuarantinedMessage.objects.get()
    assert kept.attributes == '{"field:foo": "bar", "id": "1"}'


# Trimming


@pytest.fixture
def clock(monkeypatch):
    """The clock by which streams are trimmed; the test moves it."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(trimmer, "monotonic", lambda: Clock.now)
    return Clock


def test_what_every_group_has_read_is_deleted(bus, client, stream, clock):
    """As soon as it was acknowledged, but not with every acknowledgement."""
    depot = get_context("depot")
    publish(*batch(1, 250))
    read(bus, depot, 250)
    assert client.xlen(stream) <= 100
    publish(*batch(251, 500))
    read(bus, depot, 240)
    assert client.xlen(stream) > 250
    clock.now += 2
    read(bus, depot)
    assert client.xlen(stream) <= 100


def test_many_acknowledgements_trim_at_once(bus, client, stream, clock, monkeypatch):
    """A stream under load does not grow until the clock says so."""
    monkeypatch.setattr(trimmer, "MANY", 200)
    depot = get_context("depot")
    for first in range(1, 1001, 250):
        publish(*batch(first, first + 249))
        read(bus, depot, 250)
    assert client.xlen(stream) <= 100


def test_nothing_is_deleted_that_a_group_has_not_read(bus, client, stream, clock):
    """However far it is behind, and however often others acknowledge."""
    depot, slow = get_context("depot"), replace(get_context("depot"), label="slow")
    with bus.attached(slow):
        pass
    publish(*batch(1, 300))
    read(bus, depot, 300)
    assert client.xlen(stream) == 300
    assert read(bus, slow, 120) == list(range(1, 121))
    clock.now += 2
    publish(outgoing(301))
    read(bus, depot)
    assert client.xlen(stream) < 300
    assert read(bus, slow, 300) == list(range(121, 302))


def test_nothing_is_deleted_that_is_pending(bus, client, stream, clock):
    """A receiver that crashed gets it again, though others have read on."""
    depot, crashed = get_context("depot"), replace(get_context("depot"), label="crashed")
    publish(*batch(1, 300))
    with bus.attached(crashed):
        bus.receive(crashed, 300)
    read(bus, depot, 300)
    assert client.xlen(stream) == 300
    clock.now += 2
    assert read(bus, crashed, 300) == list(range(1, 301))
    assert client.xlen(stream) <= 100


def test_nothing_is_deleted_that_a_context_of_the_project_has_yet_to_read(
    bus, client, stream, monkeypatch
):
    """It is known here and has never received: who happens to be first must not matter."""
    monkeypatch.setattr(apps.get_app_config("shop"), "subscribes", (Sold,))
    shop = get_context("shop")
    publish(*batch(1, 300))
    read(bus, get_context("depot"), 300)
    assert client.xlen(stream) == 300
    assert read(bus, shop, 300) == list(range(1, 301))
    bus._trimmer.trim_streams([stream])
    assert client.xlen(stream) <= 100


def test_a_stream_that_nobody_reads_keeps_everything(bus, client, stream):
    """Who subscribes later gets it from the first message on."""
    publish(*batch(1, 300))
    bus._trimmer.trim_streams([stream])
    assert client.xlen(stream) == 300


# Messages that are refused


def test_a_message_that_is_too_large_holds_its_key_and_nobody_else(configure):
    """It is refused before anything is sent, and no later one of its key is (rule O3)."""
    bus = configure(options={"MAX_ENTRY": 100})
    big = outgoing(2, data="x" * 101)
    published = publish(outgoing(1), big, outgoing(3), outgoing(4, key="b"), outgoing(5, key=None))
    assert (published.sent, list(published.refused)) == ([1, 4, 5], [2])
    assert "101 bytes, and Redis accepts 100" in str(published.refused[2])
    assert read(bus, get_context("depot")) == [1, 4, 5]


def test_a_size_is_that_of_the_bytes(configure):
    """Not of the characters."""
    configure(options={"MAX_ENTRY": 100})
    assert publish(outgoing(1, data="ÿ" * 51)).sent == []
    assert publish(outgoing(1, data="ÿ" * 50)).sent == [1]


def test_a_large_message_without_order_stops_no_other(configure):
    """No key has nothing to hold."""
    configure(options={"MAX_ENTRY": 100})
    published = publish(outgoing(1, key=None, data="x" * 101), outgoing(2, key=None))
    assert (published.sent, list(published.refused)) == ([2], [1])


# Outages


def through(proxy, url):
    """Return a URL through a proxy."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"127.0.0.1:{proxy.port}"))


@pytest.fixture
def proxy(redis_url, configure):
    """A wire to the server that the test can cut."""
    with Proxy(urlsplit(redis_url).port or 6379) as found:
        configure(through(found, redis_url), PUBLISH_TIMEOUT=timedelta(seconds=1))
        yield found


def test_an_answer_lost_after_arrival_is_an_outage_and_nothing_else(proxy, client, stream):
    """The client repeats nothing by itself; the relay does, and the inbox drops what came twice."""
    put(*steps(Sold, 3))
    with proxy.losing_answers(b"XADD"):
        relay()
    assert (client.xlen(stream), states()) == (3, ["pending"] * 3)
    come_due()
    relay()
    assert (client.xlen(stream), states()) == (6, ["sent"] * 3)
    receive()
    assert numbers() == [1, 2, 3]


def test_a_server_that_says_nothing_is_given_up(proxy):
    """After PUBLISH_TIMEOUT, with one attempt; no message has failed."""
    put(*steps(Sold, 1))
    relay()
    put(*steps(Sold, [2]))
    with proxy.hanging():
        assert relay().failed == 0
    partition = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert (partition.outages, states()) == (1, ["sent", "pending"])
    assert "Timeout" in partition.error
    come_due()
    relay()
    assert states() == ["sent", "sent"]


def test_a_server_that_answers_bit_by_bit_is_given_up(configure):
    """The time-out is that of the whole publication, and not of each answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        configure(
            f"redis://127.0.0.1:{listener.getsockname()[1]}/0",
            PUBLISH_TIMEOUT=timedelta(milliseconds=200),
        )
        with dripping(listener), pytest.raises(TransportUnavailable, match="Timeout"):
            publish(*batch(1, 500))


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
    put(*steps(Sold, 2))
    relay()
    with proxy.losing_answers(b"XACK"), pytest.raises(TransportUnavailable):
        receive()
    come_due()
    receive()
    assert numbers() == [1, 2]


def test_a_connection_that_was_closed_meanwhile_is_opened_again(proxy):
    """An idle connection that a firewall or a restart has ended is no outage."""
    put(*steps(Sold, 1))
    relay()
    with proxy.cut():
        relay()
    put(*steps(Sold, [2]))
    relay()
    assert states() == ["sent", "sent"]


def test_nobody_there_is_an_outage(configure):
    """For all that is asked of it."""
    bus = configure("redis://127.0.0.1:1/0")
    depot = get_context("depot")
    for ask in (
        lambda: publish(outgoing(1)),
        lambda: bus.has_messages(depot),
        lambda: read(bus, depot),
        lambda: bus.wait_for_messages([depot], 1),
        lambda: list(bus.problems()),
    ):
        with pytest.raises(TransportUnavailable, match=r"127\.0\.0\.1:1/0 cannot be reached"):
            ask()


def test_a_key_of_another_type_is_an_outage(bus, client, stream):
    """It is in the way of every message, and the fault of none."""
    client.set(stream, "something else")
    put(*steps(Sold, 2))
    assert relay().failed == 0
    assert "WRONGTYPE" in Partition.objects.get(context="shop", queue=Queue.OUTBOX).error
    client.delete(stream)
    come_due()
    relay()
    assert states() == ["sent", "sent"]


# Passwords and processes


def test_a_password_is_shown_nowhere(configure, redis_url):
    """Not in the error of a server that does not take it, not in the representation."""
    parts = urlsplit(redis_url)
    bus = configure(urlunsplit(parts._replace(netloc=f"someone:geheim@127.0.0.1:{parts.port}")))
    with pytest.raises(TransportUnavailable) as caught:
        publish(outgoing(1))
    seen = [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    assert not [each for each in [*seen, repr(bus), repr(bus.__dict__)] if "geheim" in each]


@pytest.mark.parametrize(
    "location",
    [
        "redis://:geheim@host:port/0",
        "redis://:geheim@[host/0",
        "redis://:geheim@host/0?socket_timeout=geheim",
        "redis://:geheim@host/0?unheard_of=1",
        "rediss://:geheim@host/0?ssl_cert_reqs=geheim",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(configure, location):
    """At start (check E013), and in words."""
    with pytest.raises(SettingsError, match="URL of a Redis transport") as caught:
        configure(location)
    assert "geheim" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_options_of_the_url_change_nothing_that_must_hold(configure, redis_url, client, stream):
    """Retries would write twice, and decoded answers could not be read."""
    bus = configure(f"{redis_url}?retry_on_timeout=yes&decode_responses=1&protocol=3")
    publish(outgoing(1))
    assert read(bus, get_context("depot")) == [1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"PREFIX": ""}, "a text that is not empty"),
        ({"MAX_ENTRY": -1}, "a whole number"),
        ({"MAX_AGE": 7}, "a timedelta"),
        ({"MAX_AGES": timedelta(days=1)}, "did you mean 'MAX_AGE'"),
    ],
)
def test_a_wrong_option_is_refused(configure, options, problem):
    """With what is expected there."""
    with pytest.raises(SettingsError, match=problem):
        configure(options=options)


def test_a_forked_process_has_a_connection_of_its_own(bus):
    """The answers of two processes on one connection would go to either."""
    publish(outgoing(1))
    child = os.fork()
    if not child:
        try:
            publish(*batch(100, 199))
            os._exit(0)
        finally:
            os._exit(1)
    publish(*batch(200, 299))
    _, status = os.waitpid(child, 0)
    publish(outgoing(2))
    assert status == 0
    found = read(bus, get_context("depot"), 500)
    assert sorted(found) == [1, 2, *range(100, 300)]
    assert [each for each in found if 200 <= each < 300] == list(range(200, 300))


WITHOUT_HIREDIS = """
import sys
sys.modules["hiredis"] = None  # an import of it fails, as where it is not installed
import django
django.setup()
from django.test import override_settings
from outbox_inbox.contexts import get_context
from outbox_inbox.transports import transport
from tests.support.outgoing import outgoing
location, prefix = sys.argv[1:]
entry = {"LOCATION": location, "OPTIONS": {"PREFIX": prefix}}
with override_settings(OUTBOX_INBOX={"TRANSPORTS": {"default": entry}}):
    bus, depot = transport("default"), get_context("depot")
    bus.publish(get_context("shop"), [outgoing(number) for number in range(1, 4)])
    with bus.attached(depot):
        received = bus.receive(depot, 2)
        bus.acknowledge(depot, received)
        received += bus.receive(depot, 2)
    print(len(received), next(bus.problems()))
"""


def test_it_works_without_hiredis_and_reports_that_it_is_slow(redis_url, prefix):
    """A deployment that forgot the extra is slow, and an operator can see why."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HIREDIS, redis_url, prefix],
        capture_output=True,
        check=False,
        env=environment,
        text=True,
    )
    assert done.stdout.startswith("3 The package hiredis is not installed"), done.stderr
