"""Signatures and the quarantine over real brokers: what they carry is what was signed."""

import pytest

from outbox_inbox.models import QuarantinedMessage, QuarantineReason
from outbox_inbox.operations import QuarantineSelection, release
from tests.shop.contracts import Sold
from tests.support.movers import deliver, dispatch, eventually, picks, put, receive, steps

pytestmark = pytest.mark.usefixtures("committed")

KEYS = {"2026-11": "a secret that is long enough to be one"}
DEPOT = QuarantineSelection(context="depot")


@pytest.fixture
def deploy(used, settings):
    """Return a function that sets which keys the depot has; the shop signs."""

    def configure(keys):
        settings.OUTBOX_INBOX = {
            "TRANSPORTS": {"default": used.entry},
            "CONTEXTS": {
                "shop": {"signing": {"keys": KEYS}},
                "depot": {"verifying": {"shop": {"keys": keys}}},
            },
        }

    configure(KEYS)
    receive()  # from now on the broker keeps what comes for the depot
    return configure


def send_and_receive():
    """Send three messages of one key, one of them with headers in another script."""
    put(*steps(Sold, 2, order="Åsa"))
    deliver(*steps(Sold, [3], order="Åsa"), headers={"who": "ключ ☂", "traceparent": "00-a-b-01"})
    done = []
    eventually(lambda: done.append(receive().done) or sum(done) == 3, "three messages received")


def test_a_broker_carries_what_was_signed(deploy):
    """No attribute is added, lost or spelt otherwise on its way."""
    send_and_receive()
    dispatch("depot")
    assert picks("watch", order="Åsa") == [1, 2, 3]
    assert not QuarantinedMessage.objects.exists()


def test_what_came_through_a_broker_is_released_as_it_was_sent(deploy):
    """The signature is still valid after the quarantine."""
    deploy({"2026-10": "another secret that is long enough"})
    send_and_receive()
    kept = QuarantinedMessage.objects.values_list("reason", flat=True)
    assert list(kept) == [QuarantineReason.WRONG_SIGNATURE] * 3
    deploy(KEYS)
    assert release(DEPOT).released == 3
    dispatch("depot")
    assert picks("watch", order="Åsa") == [1, 2, 3]
