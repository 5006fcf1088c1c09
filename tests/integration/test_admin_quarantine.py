"""The quarantine in the admin: how unchecked messages are shown, and what an operator may do."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox_inbox.admin import untrusted
from outbox_inbox.models import InboxMessage
from outbox_inbox.transports import ReceivedMessage
from tests.support import rows
from tests.support.arriving import arriving, payload
from tests.support.pages import SCRIPT, act, history, list_page, listed, messages_of, page, state

pytestmark = pytest.mark.django_db

MODEL = "quarantinedmessage"


def new_version(number=1):
    """Make a quarantined message of the version that the depot does not know yet."""
    return rows.quarantined(arriving(number, type="shop.sold.v2"))


# The list


@pytest.mark.parametrize(
    "query",
    [
        {"state__exact": "quarantined"},
        {"context__exact": "depot"},
        {"reason__exact": "unknown_version"},
        {"q": "A-1"},
        {"q": "shop.sold.v2"},
        {"q": "/shop"},
    ],
    ids=str,
)
def test_the_list_is_filtered_and_searched(admin_client, query):
    """By state, context and reason; for an id, a type or a source."""
    mine = rows.quarantined(message_id="A-1")
    other = {"type": "mall.sold.v1", "source": "/mall", "context": "shop", "reason": "malformed"}
    rows.quarantined(message_id="A-2", state="discarded", **other)
    assert listed(admin_client, MODEL, **query) == {mine.pk}


def test_a_row_is_found_by_its_number(admin_client):
    """A message without an id has nothing else to be found by."""
    rows.quarantined()
    mine = rows.quarantined(ReceivedMessage(receipt=None, attributes={}, data=b""))
    assert listed(admin_client, MODEL, q=f"#{mine.pk}") == {mine.pk}


def test_the_list_does_not_fetch_what_it_does_not_show(admin_client):
    """Fifty payloads may be fifty times MAX_PAYLOAD."""
    rows.quarantined()
    with CaptureQueriesContext(connection) as captured:
        listed(admin_client, MODEL)
    assert not [each for each in captured if '"data"' in each["sql"] and "COUNT" not in each["sql"]]


# The inspect page


@pytest.mark.parametrize("field", ["type", "source", "message_id", "error", "note"])
def test_hostile_columns_are_only_text(admin_client, field):
    """On the list and on the inspect page."""
    row = rows.quarantined(**{field: SCRIPT})
    assert SCRIPT not in page(admin_client, row) + list_page(admin_client, MODEL)


@pytest.mark.parametrize(
    "message",
    [
        ReceivedMessage(receipt=None, attributes={"id": SCRIPT, SCRIPT: "x"}, data=b"{}"),
        ReceivedMessage(receipt=None, attributes={}, data=SCRIPT.encode()),
        ReceivedMessage(receipt=None, attributes={}, data=json.dumps({SCRIPT: SCRIPT}).encode()),
        ReceivedMessage(receipt=None, attributes={"a": "\0\u202e"}, data=b"\xff\0" + SCRIPT.encode()),
    ],
    ids=["attributes", "text", "JSON", "bytes"],
)  # fmt: skip
def test_a_hostile_message_is_only_text(admin_client, message):
    """Whatever its attributes and its payload are."""
    shown = page(admin_client, rows.quarantined(message))
    assert SCRIPT not in shown
    assert "\u202e" not in shown


def test_attributes_and_payload_are_shown_as_they_came(admin_client):
    """JSON is laid out, numbers and order as they are."""
    message = ReceivedMessage(
        receipt=None, attributes={"id": "A-1", "x": "1\n2"}, data=b'{"b":1.5,"a":[]}'
    )
    shown = page(admin_client, rows.quarantined(message))
    assert "<th>x</th><td><code>1\\n2</code></td>" in shown
    assert "{\n  &quot;b&quot;: 1.5,\n  &quot;a&quot;: []\n}" in shown


@pytest.mark.parametrize(
    ("size", "note"),
    [(7, "7 bytes"), (300_007, "The last 300,000 bytes of the payload are not stored.")],
)
def test_the_page_says_how_much_was_kept(admin_client, size, note):
    """And that a message which was cut cannot be released."""
    message = ReceivedMessage(receipt=None, attributes={}, data=b'{"a":1}')
    changed = {} if size == 7 else {"fingerprint": "0" * 64}
    shown = page(admin_client, rows.quarantined(message, size=size, **changed))
    assert note in shown
    assert ("It cannot be released" in shown) == (size != 7)


# Release and discard


@pytest.mark.parametrize(("action", "other"), [("release", "discard"), ("discard", "release")])
def test_release_and_discard_are_permissions_of_their_own(staff, known, action, other):
    """Who may do the one may not do the other."""
    row = new_version()
    act(staff(f"{other}_quarantinedmessage"), action, row, reason="because", total=1)
    assert state(row) == "quarantined"


def test_a_viewer_is_offered_nothing(staff):
    """Neither on the list nor on the inspect page."""
    row, client = new_version(), staff()
    assert "oi-button" not in page(client, row)
    assert 'name="action"' not in list_page(client, MODEL)


def test_a_message_is_released(staff, known):
    """It is judged again, comes into the inbox, and is on record."""
    row = new_version()
    response = act(staff("release_quarantinedmessage"), "release", row)
    assert messages_of(response) == ["Released 1 quarantined message."]
    assert (state(row), history(row)) == ("released", ["olga: Released."])
    assert InboxMessage.objects.get().payload.encode() == payload(1)


def test_a_message_that_does_not_pass_stays_and_says_why(admin_client, known):
    """It has its new reason, and nothing on record."""
    good, bad = new_version(1), rows.quarantined(arriving(2, type="shop.sold.v2", data=b"{}"))
    response = act(admin_client, "release", good, bad)
    assert messages_of(response) == [
        "Released 1 quarantined message.",
        "Still quarantined: 1 wrong schema.",
    ]
    assert (state(bad), history(bad)) == ("quarantined", [])
    assert "wrong schema" in page(admin_client, bad)


def test_nothing_is_released_without_the_deployment(admin_client):
    """The page says so."""
    response = act(admin_client, "release", new_version())
    assert messages_of(response) == ["Nothing released.", "Still quarantined: 1 unknown version."]


def test_discarding_asks_for_the_reason_first(admin_client):
    """The first request changes nothing, and shows what is about to be discarded."""
    row = new_version()
    response = act(admin_client, "discard", row)
    assert (state(row), str(row) in response.content.decode()) == ("quarantined", True)
    assert b"unless its sender sends it again" in response.content


def test_a_message_is_discarded_with_its_reason(staff):
    """It is stored with the message, and in its history."""
    row = new_version()
    act(staff("discard_quarantinedmessage"), "discard", row, reason="a test", total=1)
    row.refresh_from_db()
    assert (row.state, row.note) == ("discarded", "a test")
    assert history(row) == ["olga: Discarded: a test"]


@pytest.mark.parametrize("solved", ["released", "discarded"])
def test_what_is_solved_has_no_buttons(admin_client, solved):
    """There is nothing left to be done to it."""
    assert "oi-button" not in page(admin_client, rows.quarantined(state=solved))


def test_a_solved_message_stays_as_it_is(admin_client, known):
    """A request made by hand does not get around it."""
    row = rows.quarantined(arriving(1, type="shop.sold.v2"), state="discarded")
    act(admin_client, "release", row)
    assert (state(row), history(row)) == ("discarded", [])


# What is shown of bytes


def test_a_dump_hides_nothing():
    """Every byte is there as a number, and letters beside."""
    shown = untrusted.payload(b"a\0<b>")
    assert "00000000  61 00 3c 62 3e" in shown
    assert "a·&lt;b&gt;" in shown


@pytest.mark.parametrize(
    "data", [b"\xff", b"a\0b", "a\u202eb".encode(), "\ufeff{}".encode(), b"\x1b[2J"], ids=ascii
)
def test_what_a_page_cannot_show_as_it_is_is_dumped(data):
    """Bytes that are not text, and invisible characters."""
    assert untrusted.payload(data).startswith(
        '<pre class="oi-text" dir="ltr" tabindex="0">00000000'
    )


def test_a_text_that_was_cut_within_a_character_is_still_text():
    """Only its last character is missing."""
    assert "00000000" not in untrusted.payload("naïve".encode()[:3], complete=False)
    assert "00000000" in untrusted.payload("naïve".encode()[:3])


def test_of_a_long_dump_the_beginning_is_shown():
    """And the page says so."""
    shown = untrusted.payload(b"\0" * 100_000)
    assert "The first 16,384 of 100,000 bytes." in shown
    assert len(shown) < 100_000


def test_a_long_attribute_is_cut_where_it_is_shown():
    """A page has to stay readable."""
    assert len(untrusted.attributes(json.dumps({"a": "b" * 100_000}))) < 3_000
