"""What RabbitMQ has confirmed, refused and returned of the messages of a batch."""

from math import inf
from types import SimpleNamespace

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.transports.amqp.publisher import Confirmations, _Batch
from tests.support.outgoing import outgoing


@pytest.fixture
def batch():
    """Three messages that were published on a channel and not confirmed yet."""
    session = SimpleNamespace(confirmations=Confirmations())
    made = _Batch(session, get_context("shop"), "events.shop", inf, True)
    for number in (1, 2, 3):
        made._numbers[session.confirmations.count_message()] = outgoing(number, key=str(number))
    return made


def confirmations(batch):
    """Return what the server has answered."""
    return batch._session.confirmations


def give_back(batch, number):
    """Return a message, as the server does before it confirms it."""
    message = SimpleNamespace(properties={"message_id": str(outgoing(number).id)})
    confirmations(batch)._on_return(ValueError("NO_ROUTE"), "events.shop", "shop.sold.v1", message)


def sent_before_an_outage(batch):
    """Return the rows that count as sent after the connection was lost."""
    return list(batch.published_before(TransportUnavailable("no answer")).sent)


@pytest.mark.parametrize(
    ("tag", "multiple", "left"), [(2, False, [1, 3]), (2, True, [3]), (3, True, []), (0, True, [])]
)
def test_an_answer_is_about_one_message_or_all_up_to_it(batch, tag, multiple, left):
    """The number 0 stands for all that were published."""
    confirmations(batch)._on_ack(tag, multiple)
    assert list(confirmations(batch).open) == left


@pytest.mark.parametrize(("multiple", "nacked"), [(False, {2}), (True, {1, 2})])
def test_what_the_server_could_not_store_is_known(batch, multiple, nacked):
    """Each message that a negative answer is about."""
    confirmations(batch)._on_nack(2, multiple)
    assert confirmations(batch).nacked == nacked


def test_a_negative_answer_is_not_about_what_was_confirmed_before(batch):
    """An answer for many is about those that are still open."""
    confirmations(batch)._on_ack(1, False)
    confirmations(batch)._on_nack(2, True)
    assert confirmations(batch).nacked == {2}


def test_what_was_confirmed_before_an_outage_counts_as_sent(batch):
    """It is not published again."""
    confirmations(batch)._on_ack(2, True)
    assert sent_before_an_outage(batch) == [1, 2]


def test_what_came_back_before_an_outage_does_not_count_as_sent(batch):
    """The server confirms it too, though it is in no queue: it would be lost."""
    give_back(batch, 1)
    confirmations(batch)._on_ack(2, True)
    assert sent_before_an_outage(batch) == [2]


def test_what_could_not_be_stored_before_an_outage_does_not_count_as_sent(batch):
    """The server has answered, and does not have it."""
    confirmations(batch)._on_nack(1, False)
    confirmations(batch)._on_ack(2, False)
    assert sent_before_an_outage(batch) == [2]
