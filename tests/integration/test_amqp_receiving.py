"""``amqp://`` receives: in order, again until it is acknowledged, whatever a stranger has sent."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.models import QuarantinedMessage
from outbox_inbox.transports import forget_transports, transport
from outbox_inbox.transports.wire import attributes_of
from tests.depot.contracts import Sold as SeenSold
from tests.shop.contracts import Sold, Whispered
from tests.support.movers import (
    deliver,
    eventually,
    receive,
    steps,
)
from tests.support.outgoing import numbers, outgoing, publish, publish_numbers
from tests.support.rabbit import Wire, bodies, received

pytestmark = [pytest.mark.rabbitmq, pytest.mark.usefixtures("committed")]


QUEUE_TYPES = ("quorum", "classic")


@pytest.mark.parametrize("kind", QUEUE_TYPES)
def test_receivers_that_are_killed_again_and_again_get_everything_in_order(rabbit, settings, kind):
    """Each has acknowledged a few, and leaves the rest in its place."""
    depot, got = get_context("depot"), []
    with Wire(rabbit.url) as wire:
        settings.OUTBOX_INBOX = rabbit.setting(wire.url, QUEUE_TYPE=kind)
        publish_numbers(1, 40)
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


def drained(depot):
    """Attach, receive until nothing comes, and acknowledge it."""
    found = []
    with transport("default").attached(depot):
        while more := received(depot, 4):
            transport("default").acknowledge(depot, more)
            found += bodies(more)
    return found


def test_receiving_from_nothing_returns_at_once(rabbit):
    """It is called within a transaction."""
    depot = get_context("depot")
    with transport("default").attached(depot):
        assert received(depot, 10) == []
        publish(outgoing(1))
        assert bodies(eventually(lambda: received(depot, 10), "the message")) == [1]


def test_more_than_may_be_under_way_is_received_in_several_steps(rabbit, settings):
    """Whatever BATCH_SIZE says."""
    settings.OUTBOX_INBOX = {**rabbit.setting(), "BATCH_SIZE": 5000}
    deliver(*steps(Sold, 2500))
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
    publish(outgoing(1))
    assert found.has_messages(depot)


def test_a_subscription_that_is_added_gets_its_binding(rabbit, settings, monkeypatch):
    """Though the queue is there already, and nothing is in it."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SeenSold, Whispered))
    publish(outgoing(1))
    rabbit.unbind("shop.whispered.*")
    receive()
    forget_transports()
    assert receive().done == 0
    rabbit.send(b"{}", "shop.whispered.v1")
    assert rabbit.ready() == 1


def test_a_binding_that_vanished_is_renewed_by_the_subscriber(rabbit, monkeypatch):
    """Once a minute, for publishers that know of no subscriber."""
    publish(outgoing(1))
    receive()
    rabbit.unbind()
    receive()
    rabbit.send(b"{}")
    assert rabbit.ready() == 0
    monkeypatch.setattr("outbox_inbox.transports.amqp._RENEWAL", -1)
    receive()
    rabbit.send(b"{}")
    assert rabbit.ready() == 1


def test_a_queue_that_comes_too_late_is_told(rabbit, caplog):
    """Other queues took what was published before, so that its publisher was told nothing."""
    rabbit.channel.exchange_declare(rabbit.exchange(), "topic", durable=True, auto_delete=False)
    receive()
    assert f"its queue {rabbit.queue()} is new" in caplog.text
    caplog.clear()
    forget_transports()
    receive()
    assert not caplog.text


def test_it_waits_for_what_is_new(rabbit):
    """What stays where it is, as that of a paused partition, is reported once."""
    depot, found = get_context("depot"), transport("default")
    assert not found.wait_for_messages([depot], 0.01)
    publish(outgoing(1))
    assert found.wait_for_messages([depot], 20)
    assert not found.wait_for_messages([depot], 0.01)
    publish(outgoing(2))
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
    "a content type that is not text": {"content_type": b"\xff\xff"},
    "names that are not text": {"application_headers": {b"\xff\xff": "x"}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_properties_end_in_quarantine(rabbit, monkeypatch, what):
    """Nothing that a stranger says can raise, or stop those behind."""
    publish(outgoing(1))
    monkeypatch.setattr("amqp.serialization._write_item", write_hostile(what))
    rabbit.send(b'{"number":2,"order":"a"}', **HOSTILE[what])
    monkeypatch.undo()
    publish(outgoing(3))
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
    publish(outgoing(1))
    rabbit.send(b"{}", routing_key=b"shop.sold.\xff\xfe")
    publish(outgoing(2))
    receive()
    assert numbers() == [1, 2]


def test_a_body_of_nothing_or_of_anything_ends_in_quarantine(rabbit):
    """Whatever encoding it claims to have."""
    publish(outgoing(1))
    known = {
        f"cloudEvents:{k}": v for k, v in attributes_of(get_context("shop"), outgoing(2)).items()
    }
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
    publish(outgoing(1))
    attributes = attributes_of(get_context("shop"), outgoing(2))
    headers = {f"cloudEvents_{name}": text for name, text in attributes.items()}
    rabbit.send(b'{"number":2,"order":"a"}', application_headers=headers)
    receive()
    assert numbers() == [1, 2]
