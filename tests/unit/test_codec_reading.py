from datetime import time
from decimal import Decimal

import pytest

from outbox_inbox import InvalidEvent
from outbox_inbox.events.codec import (
    check_limits,
    decode,
    decode_headers,
    encode_headers,
    text_problem,
)
from outbox_inbox.exceptions import NewerVersion, UnreadableMessage
from tests.support.stored import Placed, Tree, class_of


def test_unknown_fields_are_ignored():
    """A reader needs to know only the fields that it uses."""
    data = '{"order_id":"1","new":{"deep":[1]},"other":null}'
    assert decode(Placed, data, version=3) == Placed(order_id="1")


def test_missing_field_takes_its_default():
    """A field that the message does not have takes its default."""
    assert decode(Placed, '{"order_id":"1"}', version=3).total == Decimal(0)


@pytest.mark.parametrize(
    ("cls", "data", "message"),
    [
        (Placed, "{}", "the data does not fit Placed: order_id: Field required"),
        (Placed, '{"order_id":1}', "order_id: Input should be a valid string"),
        (Placed, '{"order_id":"1","total":"NaN"}', "total: Input should be a finite number"),
        (Placed, '{"order_id":"1","lines":[{"sku":"a"}]}', r"lines\[0\].price: Field required"),
        (Placed, '{"order_id":1,"total":"x"}', "order_id: Input .*; total: Input should be"),
        (Placed, '{"order_id":"1","order_id":"2"}', "one object has the key 'order_id' twice"),
        (Placed, '{"order_id":"\\u0000"}', "holds a NUL character"),
        (Placed, '{"order_id":"1","extra":1e5000}', "out of range"),
        (Placed, "[]", "is not an object, but an array"),
        (Placed, "[" * 65, "is nested more than 64 levels deep"),
        (Tree, '{"children":[],"at":"2024-01-01T00:00:00"}', "at: is naive"),
        (
            Tree,
            '{"children":[{"children":[],"at":"2024-01-01T00:00:00"}]}',
            r"children\[0\].at: is naive",
        ),
    ],
)
def test_unreadable(cls, data, message):
    """Data that does not fit is refused with a sentence that names each field at fault."""
    with pytest.raises(UnreadableMessage, match=message):
        decode(cls, data, version=cls.__outbox_inbox_meta__.version)


def test_time_with_a_zone_is_not_read():
    """What could not be written is not read either, whatever its origin."""
    with pytest.raises(UnreadableMessage, match="value: has a time zone"):
        decode(class_of(time), '{"value":"10:00:00Z"}', version=1)


def test_unreadable_does_not_tell_values():
    """Neither the error nor its causes repeat the data, which may be private."""
    with pytest.raises(UnreadableMessage) as raised:
        decode(Placed, '{"order_id":123456789}', version=3)
    assert "123456789" not in f"{raised.value} {raised.value.__cause__}"
    assert raised.value.__cause__.__cause__ is None


def test_own_text_is_measured_and_parsed_once(settings):
    """What `encode` has written is not looked through for names that stand twice, but measured."""
    text = '{"order_id":"a","order_id":"b"}'
    with pytest.raises(UnreadableMessage, match="one object has the key 'order_id' twice"):
        decode(Placed, text, version=3)
    assert decode(Placed, text, version=3, own=True) == Placed(order_id="b")
    settings.OUTBOX_INBOX = {"MAX_PAYLOAD": 10}
    with pytest.raises(UnreadableMessage, match=r'has 31 bytes, and .*"MAX_PAYLOAD".* allows 10'):
        decode(Placed, text, version=3, own=True)


def test_payload_limit_is_that_of_the_settings(settings):
    """Text larger than MAX_PAYLOAD is refused before it is parsed."""
    settings.OUTBOX_INBOX = {"MAX_PAYLOAD": 10}
    with pytest.raises(UnreadableMessage, match=r'has 11 bytes, and .*"MAX_PAYLOAD".* allows 10'):
        decode(Placed, "not JSON at", version=3)


def test_newer_version():
    """A message newer than the class waits for the deployment; it does not become a dead letter."""
    with pytest.raises(
        NewerVersion, match="version 4 of Placed, but the newest version known here is 3"
    ):
        decode(Placed, "{}", version=4)


def first_to_second(data):
    """Version 2 says "id" where version 1 said "number"."""
    data["id"] = str(data.pop("number"))
    return data


def second_to_third(data):
    """Version 3 says "order_id" where version 2 said "id"."""
    return {"order_id": data["id"]}


UPCASTERS = {1: first_to_second, 2: second_to_third}


@pytest.mark.parametrize(
    ("version", "data"), [(1, '{"number":7}'), (2, '{"id":"7"}'), (3, '{"order_id":"7"}')]
)
def test_upcasting(version, data):
    """A message of any older version is read through the upcasters from there on, in order."""
    assert decode(Placed, data, version=version, upcasters=UPCASTERS) == Placed(order_id="7")


def test_upcaster_gets_plain_data():
    """An upcaster gets the data as JSON has it, without any class."""
    seen = []
    decode(
        Placed,
        '{"total":"1.50","n":[1,2.5,null]}',
        version=2,
        upcasters={2: lambda data: seen.append(dict(data)) or {"order_id": ""}},
    )
    assert seen == [{"total": "1.50", "n": [1, 2.5, None]}]


def raise_error(data):
    """Fail."""
    raise KeyError("number")


def return_nothing(data):
    """Forget to return."""


def return_decimal(data):
    """Return what JSON does not have."""
    return {"order_id": "1", "total": Decimal(1)}


def return_surrogate(data):
    """Return a text that cannot be stored."""
    return {"order_id": "\ud800"}


def return_nan(data):
    """Return a number that JSON does not have."""
    return {"order_id": "1", "extra": float("nan")}


def return_endless(data):
    """Return data that contains itself."""
    data["self"] = data
    return data


@pytest.mark.parametrize(
    ("upcaster", "message"),
    [
        (raise_error, "the upcaster raise_error raised KeyError: 'number'"),
        (return_nothing, "the upcaster return_nothing returned NoneType, not a dict"),
        (return_decimal, "what return_decimal returned is not JSON: Object of type Decimal"),
        (return_nan, "what return_nan returned is not JSON"),
        (return_endless, "what return_endless returned is not JSON: Circular reference"),
        (return_surrogate, "lone surrogate"),
        (lambda data: {}, "the data does not fit Placed: order_id: Field required"),
    ],
)
def test_faulty_upcaster(upcaster, message):
    """What goes wrong in an upcaster makes the message unreadable, and names the upcaster."""
    with pytest.raises(UnreadableMessage, match=message):
        decode(Placed, "{}", version=2, upcasters={2: upcaster})


def test_cause_of_a_failed_upcaster():
    """The upcaster's own error is the cause, with its traceback."""
    with pytest.raises(UnreadableMessage) as raised:
        decode(Placed, "{}", version=2, upcasters={2: raise_error})
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize(("version", "gap"), [(1, 1), (0, 0), (-3, -3)])
def test_version_without_upcaster(version, gap):
    """A version from which no chain of upcasters leads on is unreadable."""
    with pytest.raises(UnreadableMessage, match=f"an upcaster from version {gap} is missing"):
        decode(Placed, "{}", version=version, upcasters={2: second_to_third})


def test_headers_are_canonical():
    """Headers are written with their names sorted."""
    assert encode_headers({"b": "2", "a": "1"}) == '{"a":"1","b":"2"}'


@pytest.mark.parametrize(
    ("headers", "errors"),
    [
        (
            {"a": 1, "b": "\0"},
            [
                "headers['a']: int where str is expected",
                "headers['b']: holds a NUL character at position 0",
            ],
        ),
        ({1: "a"}, ["headers[1]: int where str is expected (as a key)"]),
        ([("a", "b")], ["list where a mapping is expected"]),
        ({"a": "x" * 262_144}, ['their JSON has 262152 bytes, and OUTBOX_INBOX["MAX_PAYLOAD"]']),
    ],
)
def test_refused_headers(headers, errors):
    """Headers that are not all text, or too large, are refused with every reason."""
    with pytest.raises(InvalidEvent) as raised:
        encode_headers(headers)
    assert [found.partition(" allows")[0] for found in raised.value.errors] == errors


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[]", "is not an object"),
        ('{"a":1}', "the header 'a' is not a text"),
        ("[" * 65, "is nested more than 64 levels deep"),
        ("", "not acceptable JSON"),
    ],
)
def test_unreadable_headers(data, message):
    """Stored headers that are not an object of texts are unreadable."""
    with pytest.raises(UnreadableMessage, match=message):
        decode_headers(data)


def test_the_codec_offers_its_checks():
    """Limits and texts can be checked with the codec's own rules, as transports and streams do."""
    assert (check_limits("{}", 2), text_problem("\0")) == (
        None,
        "holds a NUL character at position 0",
    )
