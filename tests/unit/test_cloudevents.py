"""What is published is a CloudEvents 1.0 event, and one of another program's can be received.

The official SDK is the referee: it reads ours in the binary mode of each protocol that it knows,
and writes events that are then judged as if they had come from outside.
"""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from cloudevents.core.bindings import amqp, http, kafka, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from outbox_inbox.contexts import get_context
from outbox_inbox.events import codec
from outbox_inbox.inbox.admission import Refusal, accept_message
from outbox_inbox.models import QuarantineReason
from outbox_inbox.transports import ReceivedMessage, wire
from tests.shop.contracts import Sold
from tests.support.outgoing import outgoing as plain_message

# The spelling of RFC 3339, section 5.6; in UTC, as ours are.
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
NAMES = re.compile(r"[a-z0-9]{1,20}")
TEXTS = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=50
).filter(str.strip)
KEY = "a secret that is long enough to be one"
SIGNED = {"CONTEXTS": {"shop": {"signing": {"keys": {"2026-11": KEY}}}}}


class Raw(JSONFormat):
    """Leaves the data as the bytes that they are."""

    def read_data(self, body, datacontenttype):
        """Return the bytes."""
        return body


def outgoing(**changed):
    """Return a message on its way out, with everything that one can have."""
    told = {
        "time": datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC),
        "causation_id": UUID(int=78),
        "hops": 2,
        "headers": '{"traceparent":"00-a-b-01","tracestate":"x=y","who":"ÿ"}',
        "data": '{"number":1,"order":"\u00ff"}',
    }
    return plain_message(1, **told | changed)


def attributes_of(message, settings=SIGNED):
    """Return the attributes of a message as the shop publishes it."""
    with override_settings(OUTBOX_INBOX=settings):
        return wire.attributes_of(get_context("shop"), message)


def split(attributes):
    """Return the content type, which protocols have a place of their own for, and the rest."""
    rest = dict(attributes)
    return rest.pop("datacontenttype"), rest


def read_http(attributes, data):
    """Read an event as it travels over HTTP: ``ce-``, percent-encoded."""
    kind, rest = split(attributes)
    headers = {f"ce-{name}": quote(value) for name, value in rest.items()}
    return http.from_binary(http.HTTPMessage({"content-type": kind, **headers}, data), Raw())


def read_amqp(attributes, data):
    """Read an event as it travels over AMQP: ``cloudEvents:``."""
    kind, rest = split(attributes)
    found = {f"cloudEvents:{name}": value for name, value in rest.items()}
    return amqp.from_binary(amqp.AMQPMessage({"content-type": kind}, found, data), Raw())


def read_kafka(attributes, data):
    """Read an event as it travels over Kafka, and over Redis: ``ce_``, in bytes."""
    kind, rest = split(attributes)
    headers = {f"ce_{name}": value.encode() for name, value in rest.items()}
    message = kafka.KafkaMessage({"content-type": kind.encode(), **headers}, None, data)
    return kafka.from_binary(message, Raw())


def read_rabbitmq(attributes, data):
    """Read an event as the binding for RabbitMQ has it: ``ce-``."""
    kind, rest = split(attributes)
    headers = {f"ce-{name}": value for name, value in rest.items()}
    return rabbitmq.from_binary(rabbitmq.RabbitMQMessage(headers, kind, data), Raw())


READERS = [read_http, read_amqp, read_kafka, read_rabbitmq]

MESSAGES = {
    "everything": outgoing(),
    "the least": outgoing(key=None, causation_id=None, hops=0, headers="{}"),
    "no ASCII": outgoing(key="Åsa 100% ☂", headers='{"ключ":"值"}'),
}


# Ours, read by the SDK


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("what", MESSAGES)
def test_the_sdk_reads_what_we_publish(read, what):
    """Each attribute as it was told, and the data byte for byte."""
    message = MESSAGES[what]
    attributes, data = attributes_of(message), message.data.encode()
    event = read(attributes, data)
    assert event.get_data() == data
    assert event.get_time() == message.time
    assert {**event.get_attributes(), "time": attributes["time"]} == attributes


@pytest.mark.parametrize("read", READERS)
def test_the_sdk_finds_everything_where_cloudevents_has_it(read):
    """By the names that its readers ask for."""
    message = outgoing()
    event = read(attributes_of(message), message.data.encode())
    assert (event.get_specversion(), event.get_id()) == ("1.0", str(message.id))
    assert (event.get_source(), event.get_type()) == ("/shop", "shop.sold.v1")
    assert (event.get_subject(), event.get_extension("partitionkey")) == ("a", "a")
    assert event.get_datacontenttype() == "application/json"
    assert event.get_extension("correlationid") == str(UUID(int=77))
    assert event.get_extension("causationid") == str(UUID(int=78))
    assert event.get_extension("traceparent") == "00-a-b-01"
    assert event.get_extension("keyid") == "2026-11"


def test_the_data_is_json_as_the_content_type_says():
    """The SDK parses it to the same values."""
    message = outgoing()
    kind, rest = split(attributes_of(message))
    headers = {"content-type": kind, **{f"ce-{k}": quote(v) for k, v in rest.items()}}
    event = http.from_binary(http.HTTPMessage(headers, message.data.encode()), JSONFormat())
    assert event.get_data() == {"number": 1, "order": "ÿ"}


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize("settings", [{}, SIGNED], ids=["plain", "signed"])
def test_attributes_are_named_and_spelt_as_the_specification_wants(what, settings):
    """Lower-case letters and digits, no more than 20; required ones present; time in RFC 3339."""
    attributes = attributes_of(MESSAGES[what], settings)
    assert {"id", "source", "type", "specversion"} <= set(attributes)
    assert all(NAMES.fullmatch(name) for name in attributes)
    assert all(isinstance(value, str) and value for value in attributes.values())
    assert RFC_3339.fullmatch(attributes["time"])


@given(
    time=st.datetimes(
        min_value=datetime(2, 1, 1),  # noqa: DTZ001  the zone is added below
        max_value=datetime(9998, 12, 30),  # noqa: DTZ001
        timezones=st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m))),
    )
)
def test_every_time_is_told_exactly(time):
    """In UTC and to the microsecond, wherever it was recorded."""
    told = wire.timestamp(time)
    assert RFC_3339.fullmatch(told)
    assert datetime.fromisoformat(told) == time


@given(key=TEXTS, order=TEXTS, number=st.integers())
def test_the_sdk_reads_whatever_is_recorded(key, order, number):
    """Any key, and any data."""
    data = codec.encode(Sold(order=order, number=number))
    attributes = attributes_of(outgoing(key=key, data=data), {})
    for read in READERS:
        event = read(attributes, data.encode())
        assert (event.get_subject(), event.get_data()) == (key, data.encode())


# Theirs, judged by us


def theirs(**changed):
    """Return an event of another program, made with the SDK."""
    told = {
        "id": "A-234-1234-1234",
        "source": "/shop",
        "type": "shop.sold.v1",
        "subject": "Åsa 100% ☂",
        "time": datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=2))),
        "datacontenttype": "application/json",
        **changed,
    }
    attributes = {name: value for name, value in told.items() if value is not None}
    return CloudEvent(attributes, {"order": "a", "number": 1, "more": [1.5, None]})


def over_http(event):
    """Return an event as it comes out of HTTP."""
    message = http.to_binary(event, JSONFormat())
    return {k[3:]: unquote(v) for k, v in message.headers.items() if k[:3] == "ce-"}, message.body


def over_kafka(event):
    """Return an event as it comes out of Kafka, or Redis."""
    message = kafka.to_binary(event, JSONFormat())
    return {k[3:]: v.decode() for k, v in message.headers.items() if k[:3] == "ce_"}, message.value


def over_rabbitmq(event):
    """Return an event as it comes out of RabbitMQ."""
    message = rabbitmq.to_binary(event, JSONFormat())
    return {k[3:]: v for k, v in message.headers.items() if k[:3] == "ce-"}, message.body


WRITERS = [over_http, over_kafka, over_rabbitmq]


def judge(attributes, data):
    """Judge what came, for the depot."""
    return accept_message(
        get_context("depot"), ReceivedMessage(receipt=None, attributes=attributes, data=data)
    )


@pytest.mark.parametrize("write", WRITERS)
def test_an_event_of_the_sdk_gets_in(write):
    """With its own id, no headers of ours, and a field that our contract does not have."""
    attributes, data = write(theirs())
    accepted = judge(attributes, data)
    row = accepted.row
    assert (accepted.source, row.type, row.schema_version) == ("shop", "shop.sold", 1)
    assert row.message_id == uuid5(NAMESPACE_URL, "shop/A-234-1234-1234")
    assert (row.key, row.headers, row.hops) == ("Åsa 100% ☂", "{}", 0)
    assert row.payload.encode() == data
    assert json.loads(row.payload)["more"] == [1.5, None]


@pytest.mark.parametrize("write", WRITERS)
def test_an_event_with_only_what_is_required_gets_in(write):
    """The SDK adds a time of its own."""
    attributes, data = write(theirs(subject=None, time=None, datacontenttype=None))
    row = judge(attributes, data).row
    assert (row.key, row.correlation_id, row.causation_id) == (None, row.message_id, None)


@pytest.mark.parametrize("write", WRITERS)
def test_extensions_of_others_do_no_harm(write):
    """Known ones are used, others are ignored."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = theirs(
        partitionkey="p", traceparent=trace, dataschema="https://example.org/s", rank="7"
    )
    row = judge(*write(event)).row
    assert row.key == "p"
    assert json.loads(row.headers) == {"traceparent": trace}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"source": "https://github.com/cloudevents"}, QuarantineReason.UNKNOWN_SOURCE),
        ({"type": "com.example.sold"}, QuarantineReason.UNKNOWN_TYPE),
        ({"hops": "x"}, QuarantineReason.MALFORMED),
    ],
    ids=["source", "type", "extension"],
)
def test_an_event_of_a_stranger_is_refused(write, changed, reason):
    """It is a CloudEvent all the same; no context here has subscribed to such."""
    with pytest.raises(Refusal) as caught:
        judge(*write(theirs(**changed)))
    assert caught.value.reason == reason


def test_an_event_in_structured_mode_is_not_read():
    """JSON with the attributes in it is not offered: it lacks them where they are looked for."""
    message = http.to_structured(theirs(), JSONFormat())
    with pytest.raises(Refusal) as caught:
        judge({}, message.body)
    assert caught.value.reason == QuarantineReason.MALFORMED
