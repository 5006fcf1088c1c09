"""What may come in from outside, and what is refused: every reason, and whatever else may come."""

import json
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest
from django.apps import apps
from hypothesis import given
from hypothesis import strategies as st

from outbox_inbox import IntegrationEvent, upcasts
from outbox_inbox.contexts import get_context
from outbox_inbox.events import codec
from outbox_inbox.inbox.admission import Accepted, Refusal, accept_message
from outbox_inbox.models import QuarantineReason
from outbox_inbox.transports import ReceivedMessage
from outbox_inbox.transports.quarantine import attribute_text, cut_text, message_fingerprint
from tests.shop.contracts import Sold
from tests.support.arriving import arriving, payload

MEGABYTES = 10 * 1024 * 1024


class Grown(IntegrationEvent, name="shop.grown", version=3):
    """The depot's view of a contract of which it can read versions 2 and 3."""

    order: str
    number: int


@upcasts(Grown, from_version=2)
def rename(data):
    """Call the number what it is called today."""
    return {"order": data["order"], "number": data["count"]}


@pytest.fixture
def grown(settings, monkeypatch):
    """Let the depot subscribe to the contract that has grown."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (Sold, Grown))
    settings.OUTBOX_INBOX = {}


def judge(message):
    """Judge a message for the depot."""
    return accept_message(get_context("depot"), message)


def refused(message):
    """Return why a message is refused."""
    with pytest.raises(Refusal) as caught:
        judge(message)
    assert str(caught.value)
    return caught.value.reason


def test_what_is_right_gets_in():
    """A message of a contract that the depot subscribes to, from the context that publishes it."""
    accepted = judge(arriving(1))
    assert (accepted.source, accepted.row.type, accepted.row.schema_version) == (
        "shop",
        "shop.sold",
        1,
    )


def test_what_nobody_subscribed_to_is_of_no_interest():
    """It is neither taken nor kept aside."""
    assert judge(arriving(1, type="shop.other.v1", data=b"\xff")) is None


def nested(levels):
    """Return an object that holds so many arrays in each other."""
    return b'{"number":1,"order":"a","more":' + b"[" * levels + b"]" * levels + b"}"


WRONG = {
    "too large": (QuarantineReason.TOO_LARGE, b'{"order":"' + b"a" * 262_144 + b'"}'),
    "too deep": (QuarantineReason.TOO_DEEP, nested(64)),
    "far too deep": (QuarantineReason.TOO_DEEP, nested(100_000)),
    "too many nodes": (QuarantineReason.TOO_DEEP, b'{"a":[' + b"1," * 10_000 + b"1]}"),
    "no JSON": (QuarantineReason.NOT_JSON, b"order=a"),
    "nothing": (QuarantineReason.NOT_JSON, b""),
    "half of it": (QuarantineReason.NOT_JSON, b'{"number":1,"ord'),
    "no object": (QuarantineReason.NOT_JSON, b"[1]"),
    "not UTF-8": (QuarantineReason.NOT_JSON, b'{"number":1,"order":"\xff"}'),
    "a key twice": (QuarantineReason.NOT_JSON, b'{"number":1,"number":2,"order":"a"}'),
    "not a number": (QuarantineReason.NOT_JSON, b'{"number":NaN,"order":"a"}'),
    "a NUL": (QuarantineReason.NOT_JSON, b'{"number":1,"order":"\\u0000"}'),
    "a lone surrogate": (QuarantineReason.NOT_JSON, b'{"number":1,"order":"\\ud800"}'),
    "a field is missing": (QuarantineReason.WRONG_SCHEMA, b'{"number":1}'),
    "a field of another type": (QuarantineReason.WRONG_SCHEMA, b'{"number":"one","order":"a"}'),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_payload_that_cannot_be_read_is_refused(what):
    """With the reason that says what is wrong with it."""
    reason, data = WRONG[what]
    assert refused(arriving(1, data=data)) == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"id": ""},
        {"id": "a\0b"},
        {"id": "\ud800"},
        {"source": None},
        {"type": None},
        {"specversion": None},
        {"specversion": "0.3"},
        {"correlationid": "a\0b"},
        {"causationid": "\ud800"},
        {"hops": "-1"},
        {"hops": "many"},
        {"hops": "32768"},
        {"hops": "9" * 10_000},
        {"time": "yesterday"},
        {"time": "2030-01-02T03:04:05"},
        {"time": "0001-01-01T00:00:00Z"},
        {"time": "9999-12-31T23:59:59-12:00"},
        {"headers": "none"},
        {"headers": '{"a":1}'},
        {"headers": '{"a":"\\u0000"}'},
        {"headers": None, "traceparent": "\0"},
        {"headers": None, "tracestate": "a" * MEGABYTES},
        {"partitionkey": "a" * 201},
        {"partitionkey": "\0"},
        {"partitionkey": None, "subject": "\ud800"},
        {"number": 7},
        {"key": b"a"},
        {"time": datetime(2030, 1, 1, tzinfo=UTC)},
        {"subject": ["a"]},
    ],
    ids=lambda changed: ascii(changed)[:60],
)
def test_an_attribute_that_makes_no_sense_is_malformed(changed):
    """Each is checked before anything is stored."""
    number = changed.pop("number", None)
    message = arriving(1, **changed)
    if number is not None:
        message = ReceivedMessage(
            receipt=1, attributes={**message.attributes, 7: "seven"}, data=message.data
        )
    assert refused(message) == QuarantineReason.MALFORMED


@pytest.mark.parametrize("source", ["/mall", "shop/", "//shop", "depot", "/SHOP", "\0", "\ud800"])
def test_a_source_that_the_context_does_not_listen_to_is_unknown(source):
    """Only contexts whose contracts it subscribes to may put anything into its inbox."""
    assert refused(arriving(1, source=source)) == QuarantineReason.UNKNOWN_SOURCE


@pytest.mark.parametrize(
    "name",
    ["shop.sold", "shop.sold.v", "shop.sold.v0", "shop.sold.v-1", "shop.sold.v123456", "mall.sold.v1",
     "v1", "shop.sold.v1\0", "shop.sold.v\u0661"],
    ids=ascii,
)  # fmt: skip
def test_a_type_that_is_no_contract_of_its_source_is_unknown(name):
    """A context speaks for itself only."""
    assert refused(arriving(1, type=name)) == QuarantineReason.UNKNOWN_TYPE


def test_a_source_may_come_without_its_slash():
    """CloudEvents calls the source a URI reference; both forms are one."""
    assert judge(arriving(1, source="shop")).source == "shop"


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize(("version", "data"), [(2, b'{"order":"a","count":1}'), (3, payload(1))])
def test_a_version_that_can_be_read_gets_in(version, data):
    """The newest, and an older one with its upcaster, as it was sent."""
    accepted = judge(arriving(1, type=f"shop.grown.v{version}", data=data))
    assert (accepted.row.schema_version, accepted.row.payload.encode()) == (version, data)


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize("version", [1, 4, 99_999])
def test_a_version_that_cannot_be_read_is_unknown(version):
    """One that is newer than the class, and an older one without an upcaster."""
    assert refused(arriving(1, type=f"shop.grown.v{version}")) == QuarantineReason.UNKNOWN_VERSION


@pytest.mark.usefixtures("grown")
def test_data_that_an_upcaster_cannot_read_is_of_a_wrong_schema():
    """What the upcaster raises is no error of the receiver."""
    message = arriving(1, type="shop.grown.v2", data=b'{"order":"a"}')
    assert refused(message) == QuarantineReason.WRONG_SCHEMA


def test_an_id_that_is_no_uuid_is_always_the_same_number():
    """So that a foreign message which comes again is known."""
    first, again, other = (judge(arriving(id=each)).row for each in ("A-1", "A-1", "A-2"))
    assert first.message_id == again.message_id != other.message_id


@pytest.mark.parametrize("headers", [None, '{"tenant":"a"}'])
def test_ids_of_a_foreign_conversation_are_kept_as_they_were_written(headers):
    """Text that is not a UUID leads to one that is always the same, and stays in the headers."""
    ids = {"correlationid": "conv-7", "causationid": "A-1"}
    rows = [judge(arriving(number, headers=headers, **ids)).row for number in (1, 2)]
    assert {row.correlation_id for row in rows} == {uuid5(NAMESPACE_URL, "conv-7")}
    cause = judge(arriving(id="A-1")).row
    assert {row.causation_id for row in rows} == {cause.message_id}
    given = json.loads(headers or "{}")
    assert all(json.loads(row.headers) == given | ids for row in rows)


SPELLINGS = [
    str(UUID(int=0xAB)).upper(),
    UUID(int=0xAB).hex,
    f"{{{UUID(int=0xAB)}}}",
    f"urn:uuid:{UUID(int=0xAB)}",
    f"-{UUID(int=0xAB)}",
]


@pytest.mark.parametrize("written", SPELLINGS)
def test_ids_that_are_written_differently_are_of_two_messages(written):
    """CloudEvents compares texts; else the second message would be dropped as a repetition."""
    plain, other = (judge(arriving(id=each)).row for each in (str(UUID(int=0xAB)), written))
    assert plain.message_id == UUID(int=0xAB)
    assert other.message_id == uuid5(NAMESPACE_URL, f"shop/{written}")


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_cause_is_found_as_its_id_was_written(written):
    """Its causation id becomes what the id became, and the headers keep it."""
    cause, row = judge(arriving(id=written)).row, judge(arriving(2, causationid=written)).row
    assert row.causation_id == cause.message_id
    assert json.loads(row.headers)["causationid"] == written


def test_a_conversation_has_one_id_whatever_the_form_of_its_uuid():
    """A UUID is read as one, and headers stay as they were written."""
    row = judge(arriving(1, correlationid=f"urn:uuid:{UUID(int=7)}", headers='{ "b":"c" }')).row
    assert (row.correlation_id, row.headers) == (UUID(int=7), '{ "b":"c" }')


def test_a_conversation_begins_with_a_message_that_names_none():
    """Without a correlation id it is its own."""
    row = judge(arriving(5, correlationid=None, causationid=None)).row
    assert (row.correlation_id, row.causation_id) == (UUID(int=5), None)


@pytest.mark.parametrize(
    "time",
    ["2030-01-02T03:04:05.678Z", "2030-01-02t03:04:05.678000z", "2030-01-02T05:04:05.678+02:00"],
)
def test_every_form_of_rfc_3339_is_read(time):
    """Other languages write the same moment in other ways."""
    rows = [judge(arriving(1, time=each)).row for each in (time, "2030-01-02T03:04:05.678000Z")]
    assert rows[0].recorded_at == rows[1].recorded_at


def test_what_only_tracing_tools_know_comes_into_the_headers():
    """A sender that does not know our headers may still belong to a trace."""
    row = judge(arriving(1, headers=None, traceparent="00-a-b-01", tracestate="x=y")).row
    assert json.loads(row.headers) == {"traceparent": "00-a-b-01", "tracestate": "x=y"}


def test_foreign_extensions_are_ignored_however_long():
    """CloudEvents lets every producer add attributes."""
    assert judge(arriving(1, comment="a" * MEGABYTES, other="\0"))


# Whatever may come

ODD = st.text() | st.sampled_from(
    ["\0", "\ud800", "1.0", "/shop", "shop", "shop.sold.v1", "shop.sold.v2", "shop.other.v1", "{}",
     '{"a":"b"}', "1", "9" * 5_000, "2030-01-01T00:00:00Z", "0001-01-01T00:00:00Z", str(UUID(int=3)),
     "a" * 300, "٣"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["specversion", "id", "source", "type", "subject", "partitionkey", "time", "correlationid",
     "causationid", "hops", "headers", "traceparent", "tracestate", "datacontenttype", "signature",
     "keyid"]
)  # fmt: skip
VALUES = ODD | st.none() | st.integers() | st.binary() | st.lists(st.booleans()) | st.datetimes()
ATTRIBUTES = st.dictionaries(NAMES | st.text() | st.integers(), VALUES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
DATA = (
    st.binary()
    | st.builds(lambda tree: json.dumps(tree).encode(), JSON)
    | st.builds(
        lambda order, number: json.dumps({"order": order, "number": number}).encode(),
        st.text(),
        st.integers(),
    )
)


def judged(attributes, data):
    """Judge a message, and see that it can be named, fingerprinted and read."""
    message = ReceivedMessage(receipt=None, attributes=attributes, data=data)
    assert len(message_fingerprint(message)) == 64
    for name in ("id", "source", "type"):
        attribute_text(message, name).encode()
    try:
        accepted = judge(message)
    except Refusal as refusal:
        cut_text(refusal.detail).encode()
        return refusal
    if accepted is not None:
        row = accepted.row
        event = codec.decode(
            get_context("depot").events[row.type], row.payload, version=row.schema_version
        )
        codec.decode_headers(row.headers)
        assert json.loads(data)["order"] == event.order
        assert (row.key or "", row.payload)[1].encode() == data
    return accepted


@given(attributes=ATTRIBUTES, data=DATA)
def test_anything_at_all_is_accepted_or_refused(attributes, data):
    """Nothing raises, and what is accepted can be read by its consumers."""
    assert isinstance(judged(attributes, data), Refusal | Accepted | None)


@given(
    changed=st.dictionaries(NAMES, VALUES, max_size=2),
    number=st.integers(),
    order=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_a_message_with_odd_attributes_is_accepted_or_refused(changed, number, order):
    """Close to the right ones, so that what comes late in the judgement is met as well."""
    data = json.dumps({"number": number, "order": order}).encode()
    message = arriving(1)
    assert isinstance(judged({**message.attributes, **changed}, data), Refusal | Accepted | None)


@given(order=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_what_a_publisher_can_record_its_subscriber_accepts(order):
    """The two sides agree on what can be read."""
    event = Sold(order=order, number=1)
    assert isinstance(judge(arriving(1, data=codec.encode(event).encode())), Accepted)


# What is kept of it


@given(one=ATTRIBUTES, other=ATTRIBUTES, data=st.binary())
def test_only_equal_messages_have_one_fingerprint(one, other, data):
    """Otherwise one of them would be lost."""
    prints = [
        message_fingerprint(ReceivedMessage(receipt=None, attributes=each, data=data))
        for each in (one, other)
    ]
    same = {str(name): ascii(value) for name, value in one.items()} == {
        str(name): ascii(value) for name, value in other.items()
    }
    assert same or prints[0] != prints[1]


def test_a_value_and_its_picture_are_two_things():
    """What is no text may not become one by being kept."""
    messages = [
        ReceivedMessage(receipt=None, attributes={"id": value}, data=b"")
        for value in (b"a", "b'a'")
    ]
    assert len({message_fingerprint(message) for message in messages}) == 2


@given(text=st.text(), limit=st.integers(min_value=1, max_value=50))
def test_a_text_is_cut_so_that_it_can_be_stored(text, limit):
    """Never longer than the column, and in characters that every database takes."""
    found = cut_text(text, limit)
    assert (len(found) <= limit, codec.text_problem(found)) == (True, None)
