"""``redis://`` deletes what every consumer group has read, and nothing else."""

from dataclasses import replace

import pytest
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.transports.redis import trimmer
from tests.shop.contracts import Sold
from tests.support.outgoing import outgoing, publish, publish_numbers, read

pytestmark = [pytest.mark.redis, pytest.mark.usefixtures("committed")]


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
