"""Data that a broker or a database lost: the next process finds out, and says so or reads it again."""

import json

import pytest
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, Partition, Queue
from outbox_inbox.transports import forget_transports
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import deliver, put, receive, relay, states, steps
from tests.support.outgoing import numbers, publish_numbers

pytestmark = pytest.mark.usefixtures("committed")


def restart():
    """Have the next call made by a process that remembers nothing."""
    forget_transports()


def intake():
    """Return the row of the depot's intake."""
    return Partition.objects.get(context="depot", queue=Queue.INTAKE)


# Redis


@pytest.mark.redis
def test_how_far_a_stream_was_read_and_published_to_is_remembered(bus, redis, stream):
    """With the statements that end a run anyway."""
    deliver(*steps(Sold, 3))
    receive()
    (last,) = (id_.decode() for id_, _ in redis.xrevrange(stream, count=1))
    outbox = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert json.loads(intake().positions) == json.loads(outbox.positions) == {stream: last}


@pytest.mark.redis
def test_a_server_that_came_back_empty_is_told_by_a_new_process(bus, redis, stream, lost):
    """By the publisher, and by the subscriber, which goes on with what comes next."""
    deliver(*steps(Sold, 2))
    receive()
    redis.delete(stream)
    restart()
    deliver(*steps(Sold, [3]))
    restart()
    receive()
    published, unread = lost
    assert published.startswith(f"what was published to {stream} after 0-0")
    assert unread.startswith(f"what was not read of {stream}: its group depot is gone")
    assert numbers() == [1, 2, 3]
    deliver(*steps(Sold, [4]))
    restart()
    receive()
    assert len(lost) == 2


@pytest.mark.redis
def test_a_server_that_came_back_with_less_is_told(bus, redis, stream, lost):
    """A replica that was behind has taken its place: both sides know of more."""
    deliver(*steps(Sold, 2))
    receive()
    behind = redis.dump(stream)
    deliver(*steps(Sold, [3, 4]))
    receive()
    redis.restore(stream, 0, behind, replace=True)
    restart()
    receive()
    deliver(*steps(Sold, [5]))
    receive()
    assert len(lost) == 2
    assert f"what was published to {stream} after" in lost[0]
    assert "are in the inbox, and the server has lost them" in lost[0]
    assert "the server had confirmed entries up to" in lost[1]
    assert numbers() == [1, 2, 3, 4, 5]


@pytest.mark.redis
def test_a_database_that_came_back_with_less_reads_again(bus, redis, stream, lost, caplog):
    """What the stream still has is read again, in order, and nothing is stored twice."""
    deliver(*steps(Sold, 2))
    receive()
    older = intake().positions
    deliver(*steps(Sold, [3, 4, 5]))
    receive()
    InboxMessage.objects.filter(id__gt=InboxMessage.objects.order_by("id")[1].pk).delete()
    Partition.objects.filter(queue=Queue.INTAKE).update(positions=older)
    assert numbers() == [1, 2]
    restart()
    deliver(*steps(Sold, [6]))
    receive()
    assert numbers() == [1, 2, 3, 4, 5, 6]
    assert f"{stream} is read again" in caplog.text
    assert lost == []


@pytest.mark.redis
def test_a_database_that_came_back_with_less_than_the_stream_has_is_told(bus, redis, stream, lost):
    """What it lost was deleted from the stream as well."""
    deliver(*steps(Sold, 2))
    receive()
    older = intake().positions
    deliver(*steps(Sold, [3, 4, 5]))
    receive()
    Partition.objects.filter(queue=Queue.INTAKE).update(positions=older)
    redis.xtrim(stream, maxlen=1, approximate=False)
    restart()
    deliver(*steps(Sold, [6]))
    receive()
    [said] = lost
    assert "the database does not know of it" in said


@pytest.mark.redis
def test_what_is_pending_is_no_difference(bus, redis, stream, lost, caplog):
    """A receiver crashed before it had acknowledged; the group is ahead by what comes again."""
    deliver(*steps(Sold, 2))
    receive()
    publish_numbers(3, 4)
    depot = get_context("depot")
    with bus.attached(depot):
        bus.receive(depot, 10)
    restart()
    receive()
    assert numbers() == [1, 2, 3, 4]
    assert "is read again" not in caplog.text
    assert lost == []


@pytest.mark.redis
def test_the_first_process_that_remembers_takes_the_group_as_it_is(
    bus, redis, stream, lost, caplog
):
    """What was read before positions were remembered is not read again."""
    deliver(*steps(Sold, 2))
    receive()
    Partition.objects.update(positions="")
    restart()
    deliver(*steps(Sold, [3]))
    assert receive().done == 1
    assert "is read again" not in caplog.text


@pytest.mark.redis
def test_an_outbox_without_contracts_needs_no_server(configure_redis):
    """Only a run that publishes asks the server how far it was published to."""
    configure_redis("redis://127.0.0.1:1/0")
    Partition.objects.filter(queue=Queue.OUTBOX).update(positions='{"events:shop":"1-1"}')
    put(*steps(Noted, 1))
    relay()
    assert states() == ["sent"]


@pytest.mark.redis
def test_positions_of_another_transport_are_not_read(bus, lost):
    """The settings name another one since."""
    Partition.objects.update(positions='["a queue"]')
    deliver(*steps(Sold, 1))
    receive()
    assert numbers() == [1]
    assert lost == []


# RabbitMQ


@pytest.mark.rabbitmq
@pytest.mark.parametrize("first", ["publisher", "subscriber"])
def test_a_queue_that_is_gone_is_told_by_a_new_process(rabbit, lost, first):
    """With what had waited in it; whichever side comes first makes it again."""
    deliver(*steps(Sold, 2))
    receive()
    rabbit.channel.queue_delete(rabbit.queue())
    restart()
    if first == "subscriber":
        receive()
    deliver(*steps(Sold, [3]))
    receive()
    [said] = lost
    assert said.startswith(f"what was not read of {rabbit.queue()}: the queue is gone")
    assert numbers() == [1, 2, 3]
    restart()
    receive()
    assert len(lost) == 1


def test_a_partition_that_older_code_makes_has_no_positions():
    """It does not know of the column."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO outbox_inbox_partition (context, queue, number, paused, outages, error)"
            " VALUES ('old', 'intake', 0, %s, 0, '')",
            [False],
        )
    assert Partition.objects.get(context="old").positions == ""
