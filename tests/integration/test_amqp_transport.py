"""``amqp://``: a real RabbitMQ between two contexts, with exchanges and queues of the test's own."""

from uuid import UUID

import pytest
from amqp import PreconditionFailed
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.models import InboxMessage, OutboxMessage
from outbox_inbox.transports import transport
from outbox_inbox.transports.wire import attributes_of
from tests.depot.contracts import Sold as SeenSold
from tests.shop.contracts import Sold
from tests.support.movers import (
    come_due,
    deliver,
    dispatch,
    picks,
    put,
    receive,
    relay,
    states,
    steps,
)
from tests.support.outgoing import numbers, outgoing, publish

pytestmark = [pytest.mark.rabbitmq, pytest.mark.usefixtures("committed")]


APART = {"CONTEXTS": {"depot": {"transport": "elsewhere"}}}
QUEUE_TYPES = ("quorum", "classic")


@pytest.fixture
def nobody_listens(rabbit, settings):
    """The depot receives from elsewhere, so the shop knows of no subscriber."""
    alone = rabbit.setting()
    alone["TRANSPORTS"]["elsewhere"] = "memory://"
    settings.OUTBOX_INBOX = {**alone, **APART}
    return rabbit


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
    message = outgoing(1, causation_id=UUID(int=78), hops=3, headers='{"who":"ÿ"}')
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
    message = outgoing(
        1,
        key="schlüssel",
        causation_id=UUID(int=78),
        hops=3,
        headers='{"who":"ÿ"}',
        data='{"number":1,"order":"ÿ\\u0000"}',
    )
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
    publish(outgoing(1))
    arguments = {"x-queue-type": kind, "x-single-active-consumer": True}
    terms = {"durable": True, "auto_delete": False}
    rabbit.channel.queue_declare(rabbit.queue(), arguments=arguments, **terms)
    for name in arguments:
        others = {**arguments, name: None}
        with pytest.raises(PreconditionFailed):
            rabbit.channel.queue_declare(rabbit.queue(), arguments=others, **terms)


def test_every_version_of_a_contract_comes(rabbit):
    """A version that is not known here yet must not be lost before a subscriber can read it."""
    publish(outgoing(1), outgoing(2, version=2), outgoing(3, version=12))
    assert rabbit.ready() == 3


def test_two_subscribers_get_a_copy_each(rabbit, settings, monkeypatch):
    """What one acknowledges stays for the other."""
    monkeypatch.setattr(apps.get_app_config("shop"), "subscribes", (SeenSold,))
    settings.OUTBOX_INBOX = rabbit.setting()
    deliver(*steps(Sold, 3))
    assert receive("depot").done == 3
    assert receive("depot").done == 0
    assert receive("shop").done == 3
    assert InboxMessage.objects.filter(context="shop").count() == 3


# Without a subscriber


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
    deliver(*steps(Sold, 3))
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
    """UNROUTABLE says that it is not a failure."""
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
    """Rule O3, though the later one is of a type that has a queue."""
    first, unwanted = outgoing(1), outgoing(2, type="shop.whispered")
    found = publish(first, unwanted, outgoing(3), outgoing(4, key="b"), outgoing(5, key=None))
    assert list(found.sent) == [1, 4, 5]
    assert list(found.refused) == [2]
    assert [each.body[10:11] for each in rabbit.take()] == [b"1", b"4", b"5"]


def test_a_returned_message_without_a_key_blocks_no_other_without_one(rabbit):
    """What has no order does not wait."""
    unwanted = outgoing(1, key=None, type="shop.whispered")
    found = publish(unwanted, outgoing(2, key=None))
    assert (list(found.sent), list(found.refused)) == ([2], [1])


def test_further_messages_of_a_returned_type_are_not_even_tried(rabbit):
    """They would come back as well, each after a round trip."""
    found = publish(
        *[outgoing(each, key=str(each), type="shop.whispered") for each in range(1, 50)]
    )
    assert list(found.sent) == []
    assert len(found.refused) == 49


def test_a_binding_that_vanishes_lets_nothing_count_as_sent_behind_what_came_back(rabbit):
    """The types are known to be wanted, so the batch was under way before it was found out."""
    publish(outgoing(1))
    rabbit.unbind()
    found = publish(outgoing(2), outgoing(3), outgoing(4, key="b"), outgoing(5, key="b"))
    assert list(found.sent) == []
    assert list(found.refused) == [2, 4]


def test_a_binding_that_vanishes_blocks_no_message_without_a_key(rabbit):
    """Each of them came back by itself, and waits for no other."""
    publish(outgoing(1))
    rabbit.unbind()
    found = publish(outgoing(2, key=None), outgoing(3, key=None))
    assert (list(found.sent), list(found.refused)) == ([], [2, 3])


def test_a_binding_that_vanished_is_made_again(rabbit):
    """With the next attempt, in one project."""
    deliver(*steps(Sold, 1))
    rabbit.unbind()
    put(*steps(Sold, [2, 3]))
    assert relay().failed == 1
    come_due()
    assert relay().done == 2
    receive()
    assert numbers() == [1, 2, 3]


def test_a_queue_that_was_deleted_is_made_again(rabbit):
    """What was in it is gone, what follows is not."""
    publish(outgoing(1))
    rabbit.channel.queue_delete(rabbit.queue())
    deliver(*steps(Sold, [2]))
    come_due()
    relay()
    receive()
    assert numbers() == [2]


def test_attributes_that_exceed_a_frame_are_refused(rabbit):
    """RabbitMQ would close the connection, again and again, and nothing else would get through."""
    large = outgoing(2, headers='{"who":"' + "x" * 140_000 + '"}')
    found = publish(outgoing(1), large, outgoing(3), outgoing(4, key="b"))
    assert list(found.sent) == [1, 4]
    assert "exceed a frame" in str(found.refused[2])


def test_a_type_that_exceeds_a_routing_key_is_refused(rabbit):
    """AMQP has one byte for its length."""
    found = publish(outgoing(1, type="shop." + "ü" * 190), outgoing(2, key="b"))
    assert list(found.sent) == [2]
    assert "routing key" in str(found.refused[1])
