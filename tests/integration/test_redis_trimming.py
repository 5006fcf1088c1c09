"""``redis://`` deletes what every consumer group has read, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.transports.redis import trimmer
from tests.shop.contracts import Sold
from tests.support.outgoing import outgoing, publish, publish_numbers, read

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


@pytest.fixture
def bus(configure_redis):
    """The transport of subscribers that all have their groups: what they have read may go at once."""
    return configure_redis(options={"KEEP": timedelta(milliseconds=1)})


@pytest.fixture
def clock(monkeypatch):
    """The clock by which streams are trimmed; the test moves it."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(trimmer, "monotonic", lambda: Clock.now)
    return Clock


def test_what_every_group_has_read_is_deleted(bus, redis, stream, clock):
    """As soon as it was acknowledged, but not with every acknowledgement."""
    publish_numbers(1, 250)
    read(bus, 250)
    assert redis.xlen(stream) <= 100
    publish_numbers(251, 500)
    read(bus, 240)
    assert redis.xlen(stream) > 250
    clock.now += 2
    read(bus)
    assert redis.xlen(stream) <= 100


def test_many_acknowledgements_trim_at_once(bus, redis, stream, clock, monkeypatch):
    """A stream under load does not grow until the clock says so."""
    monkeypatch.setattr(trimmer, "MANY", 200)
    for first in range(1, 1001, 250):
        publish_numbers(first, first + 249)
        read(bus, 250)
    assert redis.xlen(stream) <= 100


def test_nothing_is_deleted_that_a_group_has_not_read(bus, redis, stream, clock):
    """However far it is behind, and however often others acknowledge."""
    slow = replace(get_context("depot"), label="slow")
    with bus.attached(slow):
        pass
    publish_numbers(1, 300)
    read(bus, 300)
    assert redis.xlen(stream) == 300
    assert read(bus, 120, slow) == list(range(1, 121))
    clock.now += 2
    publish(outgoing(301))
    read(bus)
    assert redis.xlen(stream) < 300
    assert read(bus, 300, slow) == list(range(121, 302))


def test_nothing_is_deleted_that_is_pending(bus, redis, stream, clock):
    """A receiver that crashed gets it again, though others have read on."""
    crashed = replace(get_context("depot"), label="crashed")
    publish_numbers(1, 300)
    with bus.attached(crashed):
        bus.receive(crashed, 300)
    read(bus, 300)
    assert redis.xlen(stream) == 300
    clock.now += 2
    assert read(bus, 300, crashed) == list(range(1, 301))
    assert redis.xlen(stream) <= 100


def test_nothing_is_deleted_that_a_context_of_the_project_has_yet_to_read(
    bus, redis, stream, monkeypatch
):
    """It is known here and has never received: who happens to be first must not matter."""
    monkeypatch.setattr(apps.get_app_config("shop"), "subscribes", (Sold,))
    shop = get_context("shop")
    publish_numbers(1, 300)
    read(bus, 300)
    assert redis.xlen(stream) == 300
    assert read(bus, 300, shop) == list(range(1, 301))
    bus._trimmer.trim_streams([stream])
    assert redis.xlen(stream) <= 100


def test_a_stream_that_nobody_reads_keeps_everything(bus, redis, stream):
    """Who subscribes later gets it from the first message on."""
    publish_numbers(1, 300)
    bus._trimmer.trim_streams([stream])
    assert redis.xlen(stream) == 300


# For subscribers of which nothing is known


def test_what_was_read_stays_for_a_subscriber_that_is_deployed_later(
    configure_redis, redis, stream
):
    """Nothing here knows of it, and the order of two deployments does not matter."""
    bus = configure_redis()
    publish_numbers(1, 300)
    read(bus, 300)
    assert redis.xlen(stream) == 300
    later = replace(get_context("depot"), label="later")
    assert read(bus, 300, later) == list(range(1, 301))


def test_what_is_older_is_deleted_and_what_is_younger_stays(configure_redis, redis, stream):
    """The age is that of the server's clock, by which the ids of entries are made."""
    bus = configure_redis()
    for number in range(1, 301):
        redis.xadd(stream, {"ce_id": str(UUID(int=number))}, id=f"{number}-1")
    publish_numbers(301, 400)
    assert len(read(bus, 400)) == 400
    assert 100 <= redis.xlen(stream) <= 200
    assert redis.xrange(stream)[-100][1][b"ce_id"] == str(UUID(int=301)).encode()


def test_a_group_that_comes_too_late_is_told(bus, redis, stream, caplog):
    """It is new, and older entries were deleted, which may have been for it."""
    publish_numbers(1, 300)
    read(bus, 300)
    left = redis.xlen(stream)
    caplog.clear()
    read(bus, 300, replace(get_context("depot"), label="later"))
    assert f"its group on {stream} is new, and {300 - left} older entries" in caplog.text


def test_a_server_that_does_not_tell_the_time_has_nothing_deleted(
    configure_redis, redis, redis_url, stream
):
    """The user may not ask for it, so the age of an entry is unknown."""
    redis.execute_command(
        "ACL", "SETUSER", "timeless", "reset", "on", ">pw", "~*", "+@all", "-time"
    )
    try:
        url = redis_url.replace("redis://", "redis://timeless:pw@")
        bus = configure_redis(url, options={"KEEP": timedelta(milliseconds=1)})
        publish_numbers(1, 300)
        assert len(read(bus, 300)) == 300
        assert redis.xlen(stream) == 300
    finally:
        redis.execute_command("ACL", "DELUSER", "timeless")
