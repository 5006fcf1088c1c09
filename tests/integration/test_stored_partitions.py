"""In which partition a row is stored: the rows of a key that are there already stay where they are."""

import pytest

from outbox_inbox import operations
from outbox_inbox.models import Delivery, OutboxMessage
from tests.shop.events import Noted
from tests.support.movers import deliver, put

pytestmark = pytest.mark.usefixtures("committed")


@pytest.mark.parametrize(("key", "partition"), [("a", 3), ("order-1", 7), ("Größe", 5)])
def test_the_partition_of_a_message_is_fixed(settings, key, partition):
    """It is the hash of the key, modulo the number of partitions."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 8}}
    operations.repartition()
    put(Noted(order=key, number=1))
    assert OutboxMessage.objects.get().partition == partition


@pytest.mark.parametrize(("key", "partition"), [("a", 2), ("order-1", 6), ("Größe", 4)])
def test_the_partition_of_a_delivery_is_fixed(key, partition):
    """It is the hash of the key, mixed with that of the consumer, modulo the number of partitions."""
    deliver(Noted(order=key, number=1))
    assert Delivery.objects.get(consumer="shop.handlers.note").partition == partition
