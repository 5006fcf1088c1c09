"""``redis://`` on a real server: the format, the order, and what happens when something is odd."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError, TransportUnavailable
from tests.shop.contracts import Sold
from tests.support.movers import (
    crash,
    crashing,
    deliver,
    receive,
    steps,
    striking,
)
from tests.support.outgoing import numbers, outgoing, publish, publish_numbers, read

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


# The format


def test_an_entry_holds_each_attribute_and_the_payload_byte_for_byte(bus, redis, stream):
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
    [(_, entry)] = redis.xrange(stream)
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


def test_each_partition_of_an_outbox_has_a_stream(configure_redis, redis, redis_prefix):
    """The first has the name of the context, the others its number as well."""
    bus = configure_redis()
    publish(outgoing(1), outgoing(2, partition=3))
    assert sorted(redis.scan_iter(f"{redis_prefix}*")) == [
        f"{redis_prefix}:shop".encode(),
        f"{redis_prefix}:shop:3".encode(),
    ]
    assert sorted(read(bus)) == [1, 2]


def test_a_stream_that_comes_later_is_found(bus):
    """The publisher has more partitions now, and the subscriber gets no notice."""
    depot = get_context("depot")
    publish(outgoing(1))
    assert read(bus) == [1]
    assert not bus.has_messages(depot)
    publish(outgoing(2, partition=7))
    assert bus.has_messages(depot)
    assert read(bus) == [2]
    assert not bus.has_messages(depot)


# Reading


def test_a_limit_counts_the_messages_of_all_streams(bus):
    """A stream that has more takes what is left; a limit below the number of streams works."""
    depot = get_context("depot")
    publish(
        *map(outgoing, range(1, 10)),
        *(outgoing(10 + number, partition=number) for number in range(1, 4)),
    )
    assert len(read(bus, 1)) == 1
    assert len(read(bus, 2)) == 2
    assert len(read(bus, 8)) == 8
    assert len(read(bus, 8)) == 1
    assert not bus.has_messages(depot)


def test_a_busy_stream_does_not_keep_the_others_waiting(bus):
    """Where one read cannot take of all streams, each of them is the first in its turn."""
    for partition in range(3):
        publish(*(outgoing(10 * partition + n, partition=partition) for n in range(1, 4)))
    found = [number // 10 for _ in range(3) for number in read(bus, 1)]
    assert sorted(found) == [0, 1, 2]


def test_what_is_pending_comes_again_while_it_is_not_acknowledged(bus):
    """Before anything new, and in its place."""
    depot = get_context("depot")
    publish_numbers(1, 3)
    with bus.attached(depot):
        first = bus.receive(depot, 2)
        again = bus.receive(depot, 2)
        assert [each.receipt for each in first] == [each.receipt for each in again]
        bus.acknowledge(depot, first)
        assert [UUID(each.attributes["id"]).int for each in bus.receive(depot, 2)] == [3]


@pytest.mark.parametrize("point", ["receive.after_read", "receive.after_commit"])
def test_what_a_crashed_receiver_had_read_comes_first(bus, redis, stream, point):
    """Rule O4: once, in order, and acknowledged in the end."""
    deliver(*steps(Sold, 2))
    with crashing(), striking(point, crash):
        receive()
    deliver(*steps(Sold, [3]))
    receive()
    assert numbers() == [1, 2, 3]
    assert redis.xpending(stream, "depot")["pending"] == 0


def test_a_crashed_receiver_with_several_streams_loses_no_place(bus):
    """More streams than one read takes: pending entries of each come before its new ones."""
    depot = get_context("depot")
    for number in range(1, 5):
        publish(outgoing(number, partition=number), outgoing(10 + number, partition=number))
    with bus.attached(depot):
        bus.receive(depot, 4)
    found = [number for _ in range(8) for number in read(bus, 1)]
    assert sorted(found) == [1, 2, 3, 4, 11, 12, 13, 14]
    assert all(found.index(number) < found.index(10 + number) for number in range(1, 5))


def test_each_subscriber_gets_every_message(bus):
    """One that is slow, or comes late, has its own place."""
    late = replace(get_context("depot"), label="late")
    publish_numbers(1, 3)
    assert read(bus) == [1, 2, 3]
    publish(outgoing(4))
    assert read(bus, 2, late) == [1, 2]
    assert read(bus) == [4]
    assert read(bus, context=late) == [3, 4]


def test_an_idle_look_is_cheap_and_right(bus):
    """One round trip; true before the group is there, and while something is pending."""
    depot = get_context("depot")
    assert bus.has_messages(depot)
    assert read(bus) == []
    assert not bus.has_messages(depot)
    publish(outgoing(1))
    assert bus.has_messages(depot)
    with bus.attached(depot):
        bus.receive(depot, 1)
    assert bus.has_messages(depot)
    assert read(bus) == [1]
    assert not bus.has_messages(depot)


def test_an_idle_look_is_right_where_the_server_cannot_count(bus, redis, stream):
    """Entries deleted from the middle of a stream leave its lag unknown."""
    depot = get_context("depot")
    publish_numbers(1, 4)
    assert read(bus, 1) == [1]
    third = redis.xrange(stream)[2][0]
    redis.xdel(stream, third)
    [group] = redis.xinfo_groups(stream)
    assert group["lag"] is None
    assert bus.has_messages(depot)
    assert read(bus) == [2, 4]
    assert not bus.has_messages(depot)


# Waiting


def test_waiting_ends_with_a_message_that_came_before_it_began(bus):
    """Nothing that comes between a look and the wait is slept through."""
    depot = get_context("depot")
    read(bus)
    publish(outgoing(1))
    assert bus.wait_for_messages([depot], 60)


def test_waiting_tells_of_a_message_once(bus):
    """Also while it stays unread: a paused partition keeps no process busy."""
    depot = get_context("depot")
    publish_numbers(1, 3)
    assert bus.wait_for_messages([depot], 60)
    assert not bus.wait_for_messages([depot], 0.05)
    publish(outgoing(4))
    assert bus.wait_for_messages([depot], 60)
    assert read(bus) == [1, 2, 3, 4]
    assert not bus.wait_for_messages([depot], 0.05)


def test_waiting_lasts_longer_than_an_answer_may_take(configure_redis):
    """That nothing comes is not an outage."""
    bus = configure_redis(PUBLISH_TIMEOUT=timedelta(seconds=1))
    assert not bus.wait_for_messages([get_context("depot")], 2)


def test_waiting_begins_again_with_a_stream_that_was_lost(bus, redis, stream):
    """Its new entries may have smaller ids than the old ones had."""
    depot = get_context("depot")
    redis.xadd(stream, {"data": "x"}, id="9999999999999-0")
    assert bus.wait_for_messages([depot], 60)
    redis.delete(stream)
    publish(outgoing(1))
    assert bus.wait_for_messages([depot], 60)


# Messages that are refused


def test_a_message_that_is_too_large_holds_its_key_and_nobody_else(configure_redis):
    """It is refused before anything is sent, and no later one of its key is (rule O3)."""
    bus = configure_redis(options={"MAX_ENTRY": 100})
    big = outgoing(2, data="x" * 101)
    published = publish(outgoing(1), big, outgoing(3), outgoing(4, key="b"), outgoing(5, key=None))
    assert (published.sent, list(published.refused)) == ([1, 4, 5], [2])
    assert "101 bytes, and Redis accepts 100" in str(published.refused[2])
    assert read(bus) == [1, 4, 5]


def test_a_size_is_that_of_the_bytes(configure_redis):
    """Not of the characters."""
    configure_redis(options={"MAX_ENTRY": 100})
    assert publish(outgoing(1, data="ÿ" * 51)).sent == []
    assert publish(outgoing(1, data="ÿ" * 50)).sent == [1]


def test_a_large_message_without_order_stops_no_other(configure_redis):
    """No key has nothing to hold."""
    configure_redis(options={"MAX_ENTRY": 100})
    published = publish(outgoing(1, key=None, data="x" * 101), outgoing(2, key=None))
    assert (published.sent, list(published.refused)) == ([2], [1])


# Passwords and processes


def test_a_password_is_shown_nowhere(configure_redis, redis_url):
    """Not in the error of a server that does not take it, not in the representation."""
    parts = urlsplit(redis_url)
    bus = configure_redis(
        urlunsplit(parts._replace(netloc=f"someone:geheim@127.0.0.1:{parts.port}"))
    )
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
def test_a_url_that_cannot_be_read_is_refused_without_its_password(configure_redis, location):
    """At start (check E013), and in words."""
    with pytest.raises(SettingsError, match="URL of a Redis transport") as caught:
        configure_redis(location)
    assert "geheim" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_options_of_the_url_change_nothing_that_must_hold(
    configure_redis, redis_url, redis, stream
):
    """Retries would write twice, and decoded answers could not be read."""
    bus = configure_redis(f"{redis_url}?retry_on_timeout=yes&decode_responses=1&protocol=3")
    publish(outgoing(1))
    assert read(bus) == [1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"PREFIX": ""}, "a text that is not empty"),
        ({"MAX_ENTRY": -1}, "a whole number"),
        ({"MAX_AGE": 7}, "a timedelta"),
        ({"MAX_AGES": timedelta(days=1)}, "did you mean 'MAX_AGE'"),
    ],
)
def test_a_wrong_option_is_refused(configure_redis, options, problem):
    """With what is expected there."""
    with pytest.raises(SettingsError, match=problem):
        configure_redis(options=options)


def test_a_forked_process_has_a_connection_of_its_own(bus):
    """The answers of two processes on one connection would go to either."""
    publish(outgoing(1))
    child = os.fork()
    if not child:
        try:
            publish_numbers(100, 199)
            os._exit(0)
        finally:
            os._exit(1)
    publish_numbers(200, 299)
    _, status = os.waitpid(child, 0)
    publish(outgoing(2))
    assert status == 0
    found = read(bus, 500)
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
from tests.support.outgoing import outgoing, read
location, redis_prefix = sys.argv[1:]
entry = {"LOCATION": location, "OPTIONS": {"PREFIX": redis_prefix}}
with override_settings(OUTBOX_INBOX={"TRANSPORTS": {"default": entry}}):
    bus, depot = transport("default"), get_context("depot")
    bus.publish(get_context("shop"), [outgoing(number) for number in range(1, 4)])
    with bus.attached(depot):
        received = bus.receive(depot, 2)
        bus.acknowledge(depot, received)
        received += bus.receive(depot, 2)
    print(len(received), next(bus.problems()))
"""


def test_it_works_without_hiredis_and_reports_that_it_is_slow(redis_url, redis_prefix):
    """A deployment that forgot the extra is slow, and an operator can see why."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HIREDIS, redis_url, redis_prefix],
        capture_output=True,
        check=False,
        env=environment,
        text=True,
    )
    assert done.stdout.startswith("3 The package hiredis is not installed"), done.stderr
