"""Signatures on the way: signed by the relay, verified by the receiver, let in once the key is there."""

import hashlib
import hmac

import pytest

from outbox_inbox.models import InboxMessage, QuarantinedMessage, QuarantineReason
from outbox_inbox.operations import QuarantineSelection, Released, release
from outbox_inbox.transports import ReceivedMessage
from tests.shop.contracts import Sold
from tests.support.arriving import arriving, bring
from tests.support.movers import dispatch, picks, put, receive, relay, steps

pytestmark = pytest.mark.usefixtures("committed")

OLD = "an old secret, which was used until October 2026"
NEW = "a new secret, which is used since November 2026"
DEPOT = QuarantineSelection(context="depot")
MEMORY = {"default": "memory://"}
WIRE = {"default": {"BACKEND": "tests.support.wire.Wire"}}


@pytest.fixture
def deploy(settings):
    """Return a function that sets the key of the shop and those of the depot."""

    def configure(signing, verifying, transports=MEMORY, **more):
        contexts = {"depot": {"verifying": {"shop": {"keys": verifying, **more}}}}
        if signing:
            (keyid,) = signing
            contexts["shop"] = {"signing": {"keys": signing, "sign_with": keyid}}
        settings.OUTBOX_INBOX = {"TRANSPORTS": transports, "CONTEXTS": contexts}

    return configure


def reasons():
    """Return why messages are still aside."""
    return [
        QuarantineReason(row.reason)
        for row in QuarantinedMessage.objects.filter(state="quarantined")
    ]


def test_signed_messages_go_from_context_to_context(deploy):
    """From the outbox of the one to the handlers of the other."""
    deploy({"2026-11": NEW}, {"2026-11": NEW})
    put(*steps(Sold, 3))
    relay()
    assert receive().done == 3
    dispatch("depot")
    assert (picks("watch"), reasons()) == ([1, 2, 3], [])


def test_what_is_signed_with_another_key_is_kept_aside_and_stops_nobody(deploy):
    """It never gets to a handler; what comes behind it does."""
    deploy({"2026-10": OLD}, {"2026-11": NEW}, WIRE)
    ours = arriving(2)
    signed = signed_by("2026-11", NEW, ours)
    queued = bring(signed_by("2026-10", OLD, arriving(1)), signed, arriving(3))
    dispatch("depot")
    assert picks("watch") == [2]
    assert reasons() == [QuarantineReason.WRONG_SIGNATURE] * 2
    assert queued.acknowledged == queued.messages


def test_after_the_key_was_added_the_messages_are_let_in(deploy):
    """A key that was replaced too early has cost no message."""
    deploy(None, {"2026-10": OLD}, WIRE)
    bring(*(signed_by("2026-11", NEW, arriving(n)) for n in (1, 2)))
    assert release(DEPOT) == Released(kept={QuarantineReason.WRONG_SIGNATURE: 2})
    deploy(None, {"2026-10": OLD, "2026-11": NEW}, WIRE)
    assert release(DEPOT) == Released(released=2)
    dispatch("depot")
    assert picks("watch") == [1, 2]


def test_a_forged_message_is_not_let_in_by_a_release(deploy):
    """Whatever else is right about it."""
    deploy(None, {"2026-11": NEW}, WIRE)
    real = signed_by("2026-11", NEW, arriving(1))
    forged = ReceivedMessage(receipt=2, attributes=real.attributes, data=arriving(9).data)
    bring(forged)
    assert release(DEPOT) == Released(kept={QuarantineReason.WRONG_SIGNATURE: 1})
    assert not InboxMessage.objects.exists()


def test_what_is_not_signed_is_let_in_once_it_need_not_be(deploy):
    """The publisher may begin to sign later."""
    deploy(None, {"2026-11": NEW}, WIRE)
    bring(arriving(1))
    assert reasons() == [QuarantineReason.WRONG_SIGNATURE]
    deploy(None, {"2026-11": NEW}, WIRE, required=False)
    assert release(DEPOT) == Released(released=1)


def test_what_nobody_subscribed_to_stays_aside_when_its_key_was_added(deploy):
    """It is of no use any more; an operator discards it."""
    deploy(None, {"2026-10": OLD}, WIRE)
    bring(signed_by("2026-11", NEW, arriving(1, type="shop.other.v1")))
    deploy(None, {"2026-11": NEW}, WIRE)
    assert release(DEPOT) == Released(kept={QuarantineReason.UNKNOWN_TYPE: 1})
    assert "does not subscribe" in QuarantinedMessage.objects.get().error


def test_within_the_process_nothing_is_signed_and_nothing_verified(deploy):
    """``local://`` puts messages into the inbox itself, also where signatures are required."""
    deploy({"2026-10": OLD}, {"2026-11": NEW}, {"default": "local://"})
    put(*steps(Sold, 2))
    relay()
    dispatch("depot")
    assert picks("watch") == [1, 2]


def signed_by(keyid, key, message):
    """Return a message with the signature of a key, made without the code that is tested here."""
    attributes = {**message.attributes, "keyid": keyid}
    parts = [b"ce-hmac-sha256-1"]
    for name, value in sorted(attributes.items()):
        parts += [name.encode(), value.encode()]
    text = b"".join(b"%d:%b," % (len(each), each) for each in [*parts, message.data])
    attributes["signature"] = hmac.new(key.encode(), text, hashlib.sha256).hexdigest()
    return ReceivedMessage(receipt=message.receipt, attributes=attributes, data=message.data)
