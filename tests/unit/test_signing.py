"""Signatures: what is signed, what is accepted, and that no key is ever shown."""

import hashlib
import hmac
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from django.test import override_settings
from django.views.debug import SafeExceptionReporterFilter
from hypothesis import given
from hypothesis import strategies as st

from outbox_inbox.conf import settings
from outbox_inbox.conf.keys import Signing, Verifying
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import SettingsError
from outbox_inbox.inbox.admission import Accepted, Refusal, accept_message
from outbox_inbox.models import QuarantineReason
from outbox_inbox.transports import ReceivedMessage, wire
from outbox_inbox.transports.signing import canonical, sign_message, signature, signature_problem
from tests.support.arriving import arriving
from tests.support.outgoing import outgoing

OLD = "an old secret, which was used until October 2026"
NEW = b"\x00\xff a new secret, which is used since November"
WRONG = QuarantineReason.WRONG_SIGNATURE
DATA = b'{"number":1,"order":"a"}'
ATTRIBUTES = st.dictionaries(st.text(), st.text(), max_size=4)


def deploy(signing=None, verifying=None):
    """Return settings with which the shop signs and the depot verifies."""
    shop = {} if signing is None else {"signing": signing}
    depot = {} if verifying is None else {"verifying": {"shop": verifying}}
    return override_settings(OUTBOX_INBOX={"CONTEXTS": {"shop": shop, "depot": depot}})


def published(data=DATA):
    """Return what the shop publishes, as its subscribers get it."""
    headers = '{"traceparent":"00-a-b-01","who":"ÿ"}'
    told = {"causation_id": UUID(int=3), "hops": 2, "headers": headers, "data": data.decode()}
    attributes = wire.attributes_of(get_context("shop"), outgoing(1, **told))
    return ReceivedMessage(receipt=1, attributes=attributes, data=data)


def judge(message):
    """Return what the depot makes of a message: None when it gets in, else the refusal."""
    try:
        assert isinstance(accept_message(get_context("depot"), message), Accepted)
    except Refusal as refusal:
        return refusal
    return None


def reason(message):
    """Return why the depot refuses a message, or None."""
    refusal = judge(message)
    return refusal and refusal.reason


# What is signed


def test_the_signed_bytes_are_those_of_the_documentation():
    """So that another language can make and verify them; written out here by hand."""
    attributes = {"type": "shop.sold.v1", "id": "ÿ", "signature": "not this"}
    by_hand = "16:ce-hmac-sha256-1,2:id,2:ÿ,4:type,12:shop.sold.v1,2:{},"
    assert canonical(attributes, b"{}") == by_hand.encode()


def test_the_example_in_the_documentation_is_right():
    """An implementation in another language compares with it."""
    text = (Path(__file__).parents[2] / "docs/signatures.md").read_text()
    attributes = {"id": "1", "keyid": "k", "source": "/ordering"}
    found = signature(b"0123456789abcdef0123456789abcdef", attributes, b"{}")
    assert f"\n    {canonical(attributes, b'{}').decode()}\n" in text
    assert f"\n    {found}\n" in text


def test_the_signature_is_an_hmac_in_hexadecimal_digits():
    """HMAC-SHA256, as every language has it."""
    expected = hmac.new(b"k" * 32, canonical({"id": "1"}, b"{}"), hashlib.sha256).hexdigest()
    assert signature(b"k" * 32, {"id": "1"}, b"{}") == expected


def test_the_id_of_the_key_is_signed_too():
    """Otherwise a message could be passed off as one made with another key."""
    attributes = {"id": "1"}
    sign_message(Signing(keyid="2026-11", key=NEW), attributes, b"{}")
    assert attributes["keyid"] == "2026-11"
    assert b"2026-11" in canonical(attributes, b"{}")


@given(one=ATTRIBUTES, other=ATTRIBUTES, data=st.tuples(st.binary(), st.binary()))
def test_two_messages_are_signed_alike_only_if_they_are_equal(one, other, data):
    """No byte can be moved from one attribute to another, or to the data."""
    one, other = ({k: v for k, v in each.items() if k != "signature"} for each in (one, other))
    same = (one, data[0]) == (other, data[1])
    assert (canonical(one, data[0]) == canonical(other, data[1])) == same


@given(name=st.text(min_size=1), value=st.text(min_size=1), data=st.binary(), cut=st.integers(0, 9))
def test_nothing_can_be_shifted_between_neighbours(name, value, data, cut):
    """Between a name and its value, or a value and the data."""
    line = name + value
    made = canonical({name: value}, data)
    for place in range(len(line) + 1):
        if place != len(name) and line[:place] != "signature":
            assert canonical({line[:place]: line[place:]}, data) != made
    assert (
        canonical({name: value + data[:cut].decode("latin-1")}, data[cut:]) != made
        or not data[:cut]
    )


@given(attributes=ATTRIBUTES, data=st.binary())
def test_the_signed_bytes_can_be_taken_apart_again(attributes, data):
    """Which is what makes them unambiguous."""
    rest, parts = canonical(attributes, data), []
    while rest:
        size, _, rest = rest.partition(b":")
        parts.append(rest[: int(size)])
        assert rest[int(size) : int(size) + 1] == b","
        rest = rest[int(size) + 1 :]
    names = parts[1:-1:2]
    found = {n.decode(): v.decode() for n, v in zip(names, parts[2:-1:2], strict=True)}
    assert (found, parts[-1]) == ({k: v for k, v in attributes.items() if k != "signature"}, data)
    assert names == sorted(names)


# What is accepted


def test_nothing_is_signed_unless_it_is_asked_for():
    """A project that does not need it does not pay for it."""
    with deploy():
        assert not {"signature", "keyid"} & set(published().attributes)


@pytest.mark.parametrize("key", [OLD, NEW], ids=["str", "bytes"])
def test_a_signed_message_is_accepted(key):
    """By a subscriber who has the key, as text or as bytes."""
    keys = {"2026-11": key}
    with deploy({"keys": keys}, {"keys": keys}):
        assert judge(published()) is None


def test_signatures_are_compared_in_constant_time(monkeypatch):
    """The time of an ordinary comparison would show an attacker how much of a guess is right."""
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both) or True)
    with deploy({"keys": {"a": OLD}}, {"keys": {"a": NEW}}):
        assert judge(published()) is None
    assert len(compared) == 1


def test_a_key_is_replaced_without_a_gap():
    """The subscriber learns the new one first; the old one goes when nothing signed with it is left."""
    before, both, after = {"old": OLD}, {"old": OLD, "new": NEW}, {"new": NEW}
    with deploy({"keys": before}, {"keys": before}):
        first = published()
    with deploy({"keys": both, "sign_with": "old"}, {"keys": both}):
        assert judge(first) is None
    with deploy({"keys": both, "sign_with": "new"}, {"keys": both}):
        second = published()
        assert (judge(first), judge(second)) == (None, None)
    with deploy({"keys": after}, {"keys": after}):
        assert (reason(first), judge(second)) == (WRONG, None)


TAMPERED = [
    "specversion", "id", "source", "type", "time", "datacontenttype", "correlationid", "subject",
    "partitionkey", "causationid", "hops", "headers", "traceparent", "keyid", "signature",
]  # fmt: skip


def test_every_attribute_is_tampered_with():
    """The list below is complete."""
    with deploy({"keys": {"a": OLD}}):
        assert set(published().attributes) == set(TAMPERED)


@pytest.mark.parametrize("name", TAMPERED)
@pytest.mark.parametrize("how", ["changed", "removed", "emptied"])
def test_an_attribute_that_was_tampered_with_is_noticed(name, how):
    """Each of them, whatever was done to it."""
    keys = {"a": OLD, "b": NEW}
    with deploy({"keys": keys, "sign_with": "a"}, {"keys": keys}):
        message = published()
        attributes = dict(message.attributes)
        value = attributes.pop(name)
        if how != "removed":
            other = {"source": "shop", "keyid": "b", "specversion": "1.1"}.get(name, f"{value}0")
            attributes[name] = other if how == "changed" else ""
        found = reason(replace(message, attributes=attributes))
    assert found == WRONG or (
        # Without these it is not even asked who it is from.
        found in (QuarantineReason.MALFORMED, QuarantineReason.UNKNOWN_SOURCE)
        and name in ("specversion", "id", "source", "type")
    )


def test_an_attribute_that_was_added_is_noticed():
    """Whatever it is called."""
    with deploy({"keys": {"a": OLD}}, {"keys": {"a": OLD}}):
        message = published()
        more = replace(message, attributes={**message.attributes, "tracestate": "x"})
        assert reason(more) == WRONG


@given(position=st.integers(0, len(DATA) - 1), byte=st.integers(1, 255))
def test_data_that_was_tampered_with_is_noticed(position, byte):
    """Each byte of it."""
    changed = bytearray(DATA)
    changed[position] ^= byte
    with deploy({"keys": {"a": OLD}}, {"keys": {"a": OLD}}):
        assert reason(replace(published(), data=bytes(changed))) == WRONG


def test_the_signature_is_looked_at_before_the_data():
    """Nothing of a message is parsed before it is known who made it."""
    with deploy({"keys": {"a": OLD}}, {"keys": {"a": OLD}}):
        bad = arriving(1, data=b"{" * 1_000, type="no type", signature="0" * 64, keyid="a")
        assert reason(bad) == WRONG


@pytest.mark.parametrize(
    ("verifying", "not_signed", "signed"),
    [
        (None, None, None),
        ({"required": False}, None, None),
        ({"required": True}, WRONG, WRONG),
        ({"keys": {"a": OLD}, "required": False}, None, None),
        ({"keys": {"a": OLD}}, WRONG, None),
        ({"keys": {"b": NEW}, "required": False}, None, WRONG),
        ({"keys": {"a": NEW}, "required": False}, None, WRONG),
    ],
    ids=str,
)
def test_a_signature_is_compared_wherever_there_are_keys(verifying, not_signed, signed):
    """With keys a message has to be signed, unless the settings say otherwise; a wrong one is worse."""
    for signing, expected in ((None, not_signed), ({"keys": {"a": OLD}}, signed)):
        with deploy(signing, verifying):
            assert reason(published()) == expected


@given(keyid=st.text(), given_signature=st.text())
def test_no_signature_that_was_made_up_is_accepted(keyid, given_signature):
    """Whatever it is made of, it is only refused."""
    attributes = {"id": "1", "keyid": keyid, "signature": given_signature}
    assert signature_problem(Verifying(keys={"a": NEW}), attributes, b"{}")


# What is shown


def shown(signing=None, verifying=None):
    """Return the lines of the error that these settings lead to."""
    with deploy(signing, verifying), pytest.raises(SettingsError) as caught:
        settings()
    return str(caught.value)


MISTAKES = {
    "short": ({"keys": {"a": "a short secret"}}, '["keys"]["a"] has 14 bytes; expected at least 32'),
    "a number": ({"keys": {"a": 7}}, "expected a secret of at least 32 bytes, as str or bytes"),
    "no keys": ({"sign_with": "a"}, '["keys"] is None; expected a dict with at least one key'),
    "keys as text": ({"keys": OLD}, '["keys"] is of type str (not shown); expected a dict'),
    "text": (OLD, '["signing"] is of type str (not shown); expected a dict'),
    "which": ({"keys": {"a": OLD, "b": NEW}}, "expected the id of one of its keys: a, b"),
    "another": ({"keys": {"a": OLD}, "sign_with": "b"}, "expected the id of one of its keys: a"),
    "swapped": ({"keys": {OLD: "2026-11"}}, 'the id of a key has 1 to 30 letters'),
    "secret as id": ({"keys": {"a": NEW}, "sign_with": OLD}, "of type str (not shown)"),
    "unknown": ({"key": OLD}, '["key"] is unknown; did you mean \'keys\'?'),
    "secret as name": ({OLD: "a"}, '["signing"]["…"] is unknown'),
    "bytes as name": ({NEW: "a"}, "has the key of type bytes (not shown)"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_and_no_secret_shown(what):
    """With its path and what is expected there."""
    signing, expected = MISTAKES[what]
    found = shown(signing)
    assert expected in found
    assert 'OUTBOX_INBOX["CONTEXTS"]["shop"]["signing"]' in found
    assert "secret, " not in found
    assert "short secret" not in found


def test_a_mistake_of_a_subscriber_is_named():
    """With the source that it is about."""
    found = shown(None, {"keys": {"a": "short"}, "required": "yes"})
    path = 'OUTBOX_INBOX["CONTEXTS"]["depot"]["verifying"]["shop"]'
    assert f'{path}["keys"]["a"] has 5 bytes' in found
    assert f'{path}["required"] is of type str (not shown); expected True or False' in found


def test_no_repr_shows_a_key():
    """Of the settings, the context, or what is in them."""
    keys = {"a": OLD, "b": NEW}
    with deploy({"keys": keys, "sign_with": "a"}, {"keys": keys}):
        context = get_context("depot")
        shop = get_context("shop")
        everything = [settings(), shop, context, context.verifying, shop.signing]
        texts = "".join(f"{each!r}{each}" for each in everything)
    assert "2026" not in texts
    assert "a new secret" not in texts
    assert "keyid='a'" in texts


def test_djangos_page_for_errors_shows_no_key():
    """In debug mode it prints all settings."""
    keys = {"a": OLD, "b": NEW}
    with deploy({"keys": keys, "sign_with": "a"}, {"keys": keys}):
        found = SafeExceptionReporterFilter().get_safe_settings()
    assert OLD not in str(found["OUTBOX_INBOX"])
    assert "sign_with" in str(found["OUTBOX_INBOX"])


def test_no_refusal_shows_a_key():
    """Nor the signature that would have been right: it is stored and logged."""
    with deploy({"keys": {"a": OLD}}, {"keys": {"a": NEW}}):
        message = published()
        refusal = judge(message)
        right = signature(NEW, message.attributes, message.data)
    assert "a new secret" not in str(refusal)
    assert right not in str(refusal)
