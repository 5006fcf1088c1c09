"""``amqp://``: a real RabbitMQ between two contexts, with exchanges and queues of the test's own."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from amqp import PreconditionFailed
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, OutboxMessage, QuarantinedMessage
from outbox_inbox.outbox.rows import hash_of
from outbox_inbox.transports import OutgoingMessage, transport
from outbox_inbox.transports.wire import attributes_of
from tests.depot.contracts import Sold as SeenSold
from tests.shop.contracts import Sold, Whispered
from tests.support.movers import (
    come_due,
    crash,
    crashing,
    dispatch,
    eventually,
    picks,
    put,
    receive,
    relay,
    states,
    steps,
    striking,
)
from tests.support.rabbit import Broker, Wire

pytestmark = [pytest.mark.rabbitmq, pytest.mark.usefixtures("committed")]

APART = {"CONTEXTS": {"depot": {"transport": "elsewhere"}}}
QUEUE_TYPES = ("quorum", "classic")


@pytest.fixture
def broker(amqp_url):
    """The RabbitMQ, with exchanges and queues of this test only."""
    with Broker(amqp_url) as made:
        yield made


@pytest.fixture
def rabbit(broker, settings):
    """The shop and the depot talk through RabbitMQ."""
    settings.OUTBOX_INBOX = broker.setting()
    yield broker
    QuarantinedMessage.objects.all().delete()


@pytest.fixture
def nobody_listens(rabbit, settings):
    """The depot receives from elsewhere, so the shop knows of no subscriber."""
    alone = rabbit.setting()
    alone["TRANSPORTS"]["elsewhere"] = "memory://"
    settings.OUTBOX_INBOX = {**alone, **APART}
    return rabbit


def numbers():
    """Return the numbers in the depot's inbox, in order."""
    rows = InboxMessage.objects.filter(context="depot").order_by("id")
    return [int(each.payload.split(":")[1].split(",")[0]) for each in rows]


def made(number, key="a", name="shop.sold", version=1, **changed):
    """Return a message as the relay hands it over."""
    message_id = uuid4()
    given = {
        "row": number,
        "id": message_id,
        "type": name,
        "version": version,
        "key": key,
        "key_hash": hash_of(key, message_id),
        "partition": 0,
        "time": datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
        "correlation_id": UUID(int=77),
        "causation_id": UUID(int=78),
        "hops": 3,
        "headers": '{"who":"ÿ"}',
        "data": f'{{"number":{number},"order":"{key}"}}',
    }
    return OutgoingMessage(**{**given, **changed})


def publish(*messages):
    """Publish messages of the shop."""
    return transport("default").publish(get_context("shop"), messages)


def bodies(messages):
    """Return the numbers in messages that were received, in order."""
    return [int(each.data.split(b":")[1].split(b",")[0]) for each in messages]


# On the wire


def test_a_contract_goes_through_rabbitmq(rabbit):
    """Published, received and handled, in order."""
    put(*steps(Sold, 5))
    assert relay().done == 5
    assert receive().done == 5
    dispatch("depot")
    assert picks("watch") == [1, 2, 3, 4, 5]


def test_a_message_is_a_cloudevent_in_binary_mode(rabbit):
    """Each attribute is a header, the content type a property, and the payload the body."""
    message = made(1)
    publish(message)
    (found,) = rabbit.take()
    attributes = attributes_of(get_context("shop"), message)
    content_type = attributes.pop("datacontenttype")
    assert found.properties == {
        "content_type": content_type,
        "application_headers": {f"cloudEvents:{name}": text for name, text in attributes.items()},
        "delivery_mode": 2,
        "message_id": str(message.id),
    }
    assert found.body == message.data.encode()
    assert found.delivery_info["routing_key"] == "shop.sold.v1"
    assert found.delivery_info["exchange"] == rabbit.exchange()


def test_what_was_sent_is_what_is_received(rabbit):
    """Attributes and bytes, to the last one."""
    message = made(1, key="schlüssel", data='{"number":1,"order":"ÿ\\u0000"}')
    publish(message)
    depot = get_context("depot")
    with transport("default").attached(depot):
        (found,) = transport("default").receive(depot, 10)
    assert found.attributes == attributes_of(get_context("shop"), message)
    assert found.data == message.data.encode()


@pytest.mark.parametrize("kind", QUEUE_TYPES)
def test_a_queue_has_the_type_that_was_chosen(rabbit, settings, kind):
    """It is durable, and has one active consumer."""
    settings.OUTBOX_INBOX = rabbit.setting(QUEUE_TYPE=kind)
    publish(made(1))
    arguments = {"x-queue-type": kind, "x-single-active-consumer": True}
    terms = {"durable": True, "auto_delete": False}
    rabbit.channel.queue_declare(rabbit.queue(), arguments=arguments, **terms)
    for name in arguments:
        others = {**arguments, name: None}
        with pytest.raises(PreconditionFailed):
            rabbit.channel.queue_declare(rabbit.queue(), arguments=others, **terms)


def test_every_version_of_a_contract_comes(rabbit):
    """A version that is not known here yet must not be lost before somebody can read it."""
    publish(made(1), made(2, version=2), made(3, version=12))
    assert rabbit.ready() == 3


def test_two_subscribers_get_a_copy_each(rabbit, settings, monkeypatch):
    """What one acknowledges stays for the other."""
    monkeypatch.setattr(apps.get_app_config("shop"), "subscribes", (SeenSold,))
    settings.OUTBOX_INBOX = rabbit.setting()
    put(*steps(Sold, 3))
    relay()
    assert receive("depot").done == 3
    assert receive("depot").done == 0
    assert receive("shop").done == 3
    assert InboxMessage.objects.filter(context="shop").count() == 3


def test_many_keys_keep_their_order_over_many_batches(rabbit):
    """As they were recorded, so they are received."""
    for number in range(1, 1202, 100):
        put(*[Sold(order=f"o{each % 7}", number=each) for each in range(number, number + 100)])
    assert relay().done == 1300
    assert receive().done == 1300
    assert numbers() == list(range(1, 1301))


# Nobody gets it


def test_a_message_that_no_queue_wants_is_a_failed_attempt(nobody_listens):
    """RabbitMQ gives it back, and the outbox keeps it."""
    put(*steps(Sold, 2))
    outcome = relay()
    assert (outcome.done, outcome.failed) == (0, 1)
    first, second = OutboxMessage.objects.order_by("id")
    assert (first.state, first.attempts) == ("pending", 1)
    assert "no queue is bound for shop.sold.v1" in first.error
    assert second.attempts == 0


def test_a_subscriber_that_comes_later_gets_everything_in_order(nobody_listens, settings):
    """The back-off ends after it has made its queue."""
    put(*steps(Sold, 3))
    relay()
    settings.OUTBOX_INBOX = nobody_listens.setting()
    assert receive().done == 0
    come_due()
    assert relay().done == 3
    assert receive().done == 3
    assert numbers() == [1, 2, 3]


def test_a_message_that_nobody_ever_wants_is_dead_in_the_end(nobody_listens, settings):
    """It waits for an operator, and is not lost."""
    settings.OUTBOX_INBOX = {**settings.OUTBOX_INBOX, "MAX_ATTEMPTS": 2}
    put(*steps(Sold, 1))
    for _ in range(3):
        relay()
        come_due()
    assert states() == ["dead"]


def test_what_nobody_wants_can_be_dropped(nobody_listens, settings):
    """UNROUTABLE says that it is no failure."""
    entry = nobody_listens.setting(UNROUTABLE="drop")["TRANSPORTS"]["default"]
    elsewhere = {"TRANSPORTS": {"default": entry, "elsewhere": "memory://"}}
    settings.OUTBOX_INBOX = {**elsewhere, **APART}
    put(*steps(Sold, 2))
    assert relay().done == 2
    assert states() == ["sent", "sent"]


def test_a_known_subscriber_need_not_have_run(rabbit):
    """In one project the publisher makes its queue, so a first start works in any order."""
    put(*steps(Sold, 2))
    assert relay().done == 2
    assert rabbit.ready() == 2


def test_after_a_returned_message_no_later_one_of_its_key_is_sent(rabbit):
    """Rule O3, though the later one is of a type that somebody wants."""
    first, unwanted = made(1), made(2, name="shop.whispered")
    found = publish(first, unwanted, made(3), made(4, key="b"), made(5, key=None))
    assert list(found.sent) == [1, 4, 5]
    assert list(found.refused) == [2]
    assert [each.body[10:11] for each in rabbit.take()] == [b"1", b"4", b"5"]


def test_further_messages_of_a_returned_type_are_not_even_tried(rabbit):
    """They would come back as well, each after a round trip."""
    found = publish(*[made(each, key=str(each), name="shop.whispered") for each in range(1, 50)])
    assert list(found.sent) == []
    assert len(found.refused) == 49


def test_a_binding_that_vanishes_lets_nothing_count_as_sent_behind_what_came_back(rabbit):
    """The types are known to be wanted, so the batch was under way before it was found out."""
    publish(made(1))
    rabbit.unbind()
    found = publish(made(2), made(3), made(4, key="b"), made(5, key="b"))
    assert list(found.sent) == []
    assert list(found.refused) == [2, 4]


def test_a_binding_that_vanished_is_made_again(rabbit):
    """With the next attempt, in one project."""
    put(*steps(Sold, 1))
    relay()
    rabbit.unbind()
    put(*steps(Sold, [2, 3]))
    assert relay().failed == 1
    come_due()
    assert relay().done == 2
    receive()
    assert numbers() == [1, 2, 3]


def test_a_queue_that_was_deleted_is_made_again(rabbit):
    """What was in it is gone, what follows is not."""
    publish(made(1))
    rabbit.channel.queue_delete(rabbit.queue())
    put(*steps(Sold, [2]))
    relay()
    come_due()
    relay()
    receive()
    assert numbers() == [2]


def test_attributes_that_exceed_a_frame_are_refused(rabbit):
    """RabbitMQ would close the connection, again and again, and nothing else would get through."""
    large = made(2, headers='{"who":"' + "x" * 140_000 + '"}')
    found = publish(made(1), large, made(3), made(4, key="b"))
    assert list(found.sent) == [1, 4]
    assert "exceed a frame" in str(found.refused[2])


def test_a_type_that_exceeds_a_routing_key_is_refused(rabbit):
    """AMQP has one byte for its length."""
    found = publish(made(1, name="shop." + "ü" * 190), made(2, key="b"))
    assert list(found.sent) == [2]
    assert "routing key" in str(found.refused[1])


# Receiving


@pytest.mark.parametrize("point", ["receive.after_read", "receive.after_insert"])
def test_after_a_crash_before_the_commit_messages_come_again_and_first(rabbit, point):
    """Rule O4: nothing was stored, and nothing acknowledged."""
    put(*steps(Sold, 3))
    relay()
    with crashing(), striking(point, crash):
        receive(limit=2)
    assert numbers() == []
    put(*steps(Sold, [4]))
    relay()
    receive()
    assert numbers() == [1, 2, 3, 4]


@pytest.mark.parametrize("point", ["receive.after_commit", "receive.after_ack"])
def test_after_a_crash_after_the_commit_nothing_is_stored_twice(rabbit, point):
    """What was not acknowledged comes again, and is known."""
    put(*steps(Sold, 3))
    relay()
    with crashing(), striking(point, crash):
        receive()
    put(*steps(Sold, [4]))
    relay()
    receive()
    assert numbers() == [1, 2, 3, 4]
    assert rabbit.ready() == 0


@pytest.mark.parametrize("kind", QUEUE_TYPES)
def test_receivers_that_are_killed_again_and_again_get_everything_in_order(rabbit, settings, kind):
    """Each has acknowledged a few, and leaves the rest in its place."""
    depot, got = get_context("depot"), []
    with Wire(rabbit.url) as wire:
        settings.OUTBOX_INBOX = rabbit.setting(wire.url, QUEUE_TYPE=kind)
        publish(*[made(number) for number in range(1, 41)])
        for limit in (7, 3, 9, 2, 5):
            with transport("default").attached(depot):
                first = eventually(lambda n=limit: received(depot, n), "messages")
                transport("default").acknowledge(depot, first)
                got += bodies(first)
                assert bodies(received(depot, limit))[0] == got[-1] + 1
                # A round trip on the same connection: the acknowledgement has got through.
                transport("default")._backlog.count_messages(depot)
                wire.cut()
        while more := eventually(lambda: drained(depot), "the rest") if len(got) < 40 else []:
            got += more
    assert got == list(range(1, 41))


def received(depot, limit):
    """Receive once."""
    return transport("default").receive(depot, limit)


def drained(depot):
    """Attach, receive until nothing comes, and acknowledge it."""
    found = []
    with transport("default").attached(depot):
        while more := received(depot, 4):
            transport("default").acknowledge(depot, more)
            found += bodies(more)
    return found


def test_what_was_handed_out_comes_again_before_anything_new(rabbit):
    """To the same receiver as well, as long as it has not acknowledged it."""
    depot = get_context("depot")
    publish(*[made(number) for number in range(1, 6)])
    with transport("default").attached(depot):
        assert bodies(received(depot, 2)) == [1, 2]
        assert bodies(received(depot, 3)) == [1, 2, 3]
    with transport("default").attached(depot):
        assert bodies(received(depot, 4)) == [1, 2, 3, 4]


def test_receiving_from_nothing_returns_at_once(rabbit):
    """It is called within a transaction."""
    depot = get_context("depot")
    with transport("default").attached(depot):
        assert received(depot, 10) == []
        publish(made(1))
        assert bodies(eventually(lambda: received(depot, 10), "the message")) == [1]


def test_more_than_may_be_under_way_is_received_in_several_steps(rabbit, settings):
    """Whatever BATCH_SIZE says."""
    settings.OUTBOX_INBOX = {**rabbit.setting(), "BATCH_SIZE": 5000}
    put(*steps(Sold, 2500))
    relay()
    batches = []
    receive(progress=batches.append)
    assert sum(batches) == 2500
    assert numbers() == list(range(1, 2501))


def test_it_tells_whether_there_are_messages(rabbit):
    """In doubt, when the queue is still to be made, there are."""
    depot, found = get_context("depot"), transport("default")
    assert found.has_messages(depot)
    assert receive().done == 0
    assert not found.has_messages(depot)
    publish(made(1))
    assert found.has_messages(depot)


def test_a_subscription_that_is_added_gets_its_binding(rabbit, settings, monkeypatch):
    """Though the queue is there already, and nothing is in it."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SeenSold, Whispered))
    publish(made(1))
    rabbit.unbind("shop.whispered.*")
    receive()
    transport.cache_clear()
    assert receive().done == 0
    rabbit.send(b"{}", "shop.whispered.v1")
    assert rabbit.ready() == 1


def test_a_binding_that_vanished_is_renewed_by_the_subscriber(rabbit, monkeypatch):
    """Once a minute, for publishers that know of no subscriber."""
    publish(made(1))
    receive()
    rabbit.unbind()
    receive()
    rabbit.send(b"{}")
    assert rabbit.ready() == 0
    monkeypatch.setattr("outbox_inbox.transports.amqp._RENEWAL", -1)
    receive()
    rabbit.send(b"{}")
    assert rabbit.ready() == 1


def test_it_waits_for_what_is_new(rabbit):
    """What stays where it is, as that of a paused partition, is told once."""
    depot, found = get_context("depot"), transport("default")
    assert not found.wait_for_messages([depot], 0.01)
    publish(made(1))
    assert found.wait_for_messages([depot], 20)
    assert not found.wait_for_messages([depot], 0.01)
    publish(made(2))
    assert found.wait_for_messages([depot], 20)


HOSTILE = {
    "no properties at all": {},
    "numbers": {"application_headers": {"cloudEvents:id": 7, "cloudEvents:source": 1.5}},
    "bytes": {"application_headers": {"cloudEvents:id": b"\xff\xfe", "cloudEvents:type": b"\x00"}},
    "tables": {"application_headers": {"cloudEvents:id": {"a": [1, {"b": None}]}}},
    "nothing": {"application_headers": {"cloudEvents:id": None, "cloudEvents:specversion": True}},
    "a time": {"application_headers": {"cloudEvents:time": datetime(2030, 1, 1, tzinfo=UTC)}},
    "a time after the year 9999": {"application_headers": {"cloudEvents:time": b"AFTER"}},
    "a table in a table, a thousand times": {"application_headers": {"cloudEvents:id": b"DEEP"}},
    "a content type that is no text": {"content_type": b"\xff\xff"},
    "names that are no text": {"application_headers": {b"\xff\xff": "x"}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_properties_end_in_quarantine(rabbit, monkeypatch, what):
    """Nothing that a stranger says can raise, or stop those behind."""
    publish(made(1))
    monkeypatch.setattr("amqp.serialization._write_item", write_hostile(what))
    rabbit.send(b'{"number":2,"order":"a"}', **HOSTILE[what])
    monkeypatch.undo()
    publish(made(3))
    receive()
    assert numbers() == [1, 3]
    assert QuarantinedMessage.objects.get().reason == "malformed"


def write_hostile(what):
    """Return py-amqp's function that writes a header's value, which also writes the impossible."""
    from amqp import serialization

    write_item = serialization._write_item

    def write(value, out, bits):
        if value == b"AFTER":
            out(b"T" + b"\x7f" * 8)
        elif value == b"DEEP":
            table = b"V"
            for _ in range(3000):
                inner = b"\x01a" + table
                table = b"F" + len(inner).to_bytes(4, "big") + inner
            out(table)
        else:
            write_item(value, out, bits)

    return write


def test_a_routing_key_that_is_no_text_stops_nothing(rabbit):
    """It is not even read."""
    publish(made(1))
    rabbit.send(b"{}", routing_key=b"shop.sold.\xff\xfe")
    publish(made(2))
    receive()
    assert numbers() == [1, 2]


def test_a_body_of_nothing_or_of_anything_ends_in_quarantine(rabbit):
    """Whatever encoding it claims to have."""
    publish(made(1))
    known = {f"cloudEvents:{k}": v for k, v in attributes_of(get_context("shop"), made(2)).items()}
    for number, body in enumerate((b"", b"\xff\xfe", "ÿ".encode("utf-16"))):
        headers = {**known, "cloudEvents:id": str(UUID(int=number))}
        rabbit.send(body, application_headers=headers, content_encoding="utf-16")
    receive()
    assert numbers() == [1]
    assert set(QuarantinedMessage.objects.values_list("reason", flat=True)) == {"not_json"}
    sizes = QuarantinedMessage.objects.order_by("id").values_list("size", flat=True)
    assert list(sizes) == [0, 2, 4]


def test_the_other_prefix_of_cloudevents_is_read_as_well(rabbit):
    """The AMQP binding of CloudEvents allows both."""
    publish(made(1))
    attributes = attributes_of(get_context("shop"), made(2))
    headers = {f"cloudEvents_{name}": text for name, text in attributes.items()}
    rabbit.send(b'{"number":2,"order":"a"}', application_headers=headers)
    receive()
    assert numbers() == [1, 2]
