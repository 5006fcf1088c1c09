"""The hashes from which partitions are computed: they are stored, and never change."""

from uuid import UUID

import pytest

from outbox_inbox.contexts import consumers
from outbox_inbox.outbox.rows import hash_of


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("a", 3904355907),
        ("order-1", 3769860079),
        ("Größe", 2490273813),
        ("注文-7", 2266844115),
        ("📦", 884271474),
    ],
)
def test_the_hash_of_a_key_is_fixed(key, hashed):
    """With another one, a key would go to another partition after an upgrade, and overtake itself."""
    assert hash_of(key, UUID(int=7)) == hashed


def test_the_hash_of_a_message_without_a_key_is_fixed():
    """It is that of the text of its id, so that such messages are spread."""
    assert hash_of(None, UUID(int=7)) == 523587370


@pytest.mark.parametrize(
    ("name", "hashed"), [("shop.handlers.note", 531916209), ("läden.handlers.note", 3973503884)]
)
def test_the_hash_of_a_consumer_is_fixed(name, hashed):
    """With that of the key it makes the partition of a delivery, which its later ones have to share."""
    assert consumers.hash_of(name) == hashed
