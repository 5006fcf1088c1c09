"""A key, an exchange or a queue of another program: it costs its own messages, and no others."""

import pytest
from django.apps import apps

from outbox_inbox import IntegrationEvent, signals
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import Partition, Queue
from outbox_inbox.transports import transport
from outbox_inbox.transports.redis import stream_names
from tests.depot.contracts import Sold as SeenSold
from tests.shop.contracts import Sold
from tests.support.movers import deliver, put, receive, relay, states, steps
from tests.support.outgoing import numbers, outgoing, publish, read

pytestmark = pytest.mark.usefixtures("committed")


class Loaded(IntegrationEvent, name="yard.loaded", version=1):
    """What a context of another deployment publishes."""

    number: int


@pytest.fixture
def unreadable():
    """What was announced as unreadable during a test, as (context, place)."""
    found = []

    def note(sender, context, place, error, **_):
        found.append((context, place, error))

    signals.source_unreadable.connect(note)
    yield found
    signals.source_unreadable.disconnect(note)


@pytest.fixture
def two_sources(settings, monkeypatch):
    """Let the depot listen to the yard as well."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SeenSold, Loaded))
    yield
    monkeypatch.undo()


# Redis


@pytest.mark.redis
def test_a_key_of_another_type_costs_its_own_stream_only(bus, redis, stream, unreadable):
    """The other streams of the source are read, and the key is named once."""
    redis.set(f"{stream}:7", "something else")
    publish(outgoing(1))
    assert read(bus) == [1]
    publish(outgoing(2, partition=3))
    assert read(bus) == [2]
    [(context, place, error)] = unreadable
    assert (context, place) == ("depot", f"{stream}:7")
    assert "WRONGTYPE" in error
    assert not bus.has_messages(get_context("depot"))


@pytest.mark.redis
def test_a_key_of_another_type_costs_its_own_source_only(
    two_sources, bus, redis, redis_prefix, unreadable
):
    """The streams of other sources are read, and their messages end the wait for new ones."""
    redis.set(f"{redis_prefix}:yard", "something else")
    publish(outgoing(1))
    assert read(bus) == [1]
    assert [place for _, place, _ in unreadable] == [f"{redis_prefix}:yard"]
    publish(outgoing(2))
    assert bus.wait_for_messages([get_context("depot")], 60)


@pytest.mark.redis
def test_a_stream_that_turns_into_another_key_costs_its_own_source_only(
    two_sources, bus, redis, redis_prefix, unreadable
):
    """The server refuses the command that reads all streams, and does not say because of which."""
    publish(outgoing(1))
    depot = get_context("depot")
    with bus.attached(depot):
        bus.acknowledge(depot, bus.receive(depot, 10))
        redis.delete(f"{redis_prefix}:yard")
        redis.set(f"{redis_prefix}:yard", "something else")
        publish(outgoing(2))
        assert len(bus.receive(depot, 10)) == 1
    assert [place for _, place, _ in unreadable] == [f"{redis_prefix}:yard"]


@pytest.mark.redis
def test_a_stream_that_takes_the_place_of_another_key_is_read(
    bus, redis, stream, monkeypatch, unreadable
):
    """An operator has renamed the key, and nothing has to be restarted."""
    monkeypatch.setattr(stream_names, "AGAIN", -1)
    redis.set(f"{stream}:7", "something else")
    publish(outgoing(1))
    assert read(bus) == [1]
    redis.delete(f"{stream}:7")
    publish(outgoing(2, partition=7))
    assert bus.has_messages(get_context("depot"))
    assert read(bus) == [2]
    redis.set(f"{stream}:8", "something else")
    read(bus)
    assert [place for _, place, _ in unreadable] == [f"{stream}:7", f"{stream}:8"]


@pytest.mark.redis
def test_an_intake_that_can_read_nothing_stays_an_outage(bus, redis, stream):
    """It has one stream, and a look that finds nothing to read must not end the outage."""
    redis.set(stream, "something else")
    for _ in range(2):
        with pytest.raises(TransportUnavailable, match=f"{stream}: WRONGTYPE"):
            receive()
        Partition.objects.update(retry_at=None)
    assert Partition.objects.get(context="depot", queue=Queue.INTAKE).outages == 2


@pytest.mark.redis
def test_a_stream_that_the_user_may_not_read_costs_itself_only(
    configure_redis, redis, redis_url, stream, unreadable
):
    """The user has been granted one of two streams."""
    redis.execute_command("ACL", "SETUSER", "narrow", "reset", "on", ">pw", f"~{stream}", "+@all")
    try:
        publish_to = configure_redis()
        publish(outgoing(1), outgoing(2, partition=1))
        assert publish_to.has_messages(get_context("depot"))
        bus = configure_redis(redis_url.replace("redis://", "redis://narrow:pw@"))
        assert read(bus) == [1]
        assert "NOPERM" in unreadable[0][2]
    finally:
        redis.execute_command("ACL", "DELUSER", "narrow")


@pytest.mark.redis
def test_the_check_names_a_key_of_another_type(bus, redis, stream):
    """Before the first message: ``check --deploy`` asks the server."""
    redis.set(f"{stream}:7", "something else")
    assert [each for each in bus.problems() if f"{stream}:7" in each and "WRONGTYPE" in each]


# RabbitMQ


@pytest.mark.rabbitmq
def test_an_exchange_of_another_type_costs_its_own_source_only(two_sources, rabbit, unreadable):
    """The queue is bound to the other sources, whose publishers and receivers go on."""
    rabbit.channel.exchange_declare(rabbit.exchange("yard"), "fanout", durable=True)
    try:
        deliver(*steps(Sold, 2))
        assert states() == ["sent", "sent"]
        receive()
        assert numbers() == [1, 2]
    finally:
        rabbit.channel.exchange_delete(rabbit.exchange("yard"))
    [(context, place, error)] = unreadable
    assert (context, place) == ("depot", rabbit.exchange("yard"))
    assert "not a durable topic exchange" in error


@pytest.mark.rabbitmq
def test_an_intake_without_any_exchange_to_bind_is_an_outage(rabbit):
    """All its sources are in the way."""
    rabbit.channel.exchange_declare(rabbit.exchange(), "fanout", durable=True, auto_delete=False)
    with pytest.raises(TransportUnavailable, match="not a durable topic exchange"):
        receive()


@pytest.mark.rabbitmq
def test_a_queue_of_another_type_costs_its_own_subscriber_only(rabbit, settings, monkeypatch):
    """Its publisher uses it as it is, and the other subscribers get their messages."""
    monkeypatch.setattr(apps.get_app_config("shop"), "subscribes", (SeenSold,))
    settings.OUTBOX_INBOX = rabbit.setting()
    rabbit.channel.queue_declare(rabbit.queue("depot"), durable=True, auto_delete=False)
    deliver(*steps(Sold, 2))
    assert states() == ["sent", "sent"]
    assert receive("shop").done == 2
    with pytest.raises(TransportUnavailable, match="exists already with other arguments"):
        receive("depot")
    assert rabbit.ready("depot") == 2


@pytest.mark.rabbitmq
def test_a_queue_that_forgets_its_messages_is_not_published_to(rabbit):
    """Confirmed messages would be lost with the server, so the publisher waits."""
    rabbit.channel.queue_declare(rabbit.queue("depot"), durable=False, auto_delete=False)
    put(*steps(Sold, 1))
    relay()
    assert states() == ["pending"]
    error = Partition.objects.get(context="shop", queue=Queue.OUTBOX).error
    assert rabbit.queue("depot") in error
    assert "exists already with other arguments" in error
    assert list(transport("default").problems())
