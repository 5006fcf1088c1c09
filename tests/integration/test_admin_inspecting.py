"""The admin's inspect pages: what they show of a row, and where they lead."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from django.utils.html import escape

from tests.support import rows
from tests.support.pages import MODELS, NUMBER, SCRIPT, address, list_page, listed, page, path

pytestmark = pytest.mark.django_db

HOSTILE = {
    "markup": f'{{"name":"{SCRIPT}"}}',
    "2,000 levels": "[" * 2000 + f'"{SCRIPT}"' + "]" * 2000,
    "no JSON": f"{SCRIPT} & so on",
    "256 KB": '{"a":"' + SCRIPT + "x" * 262_144 + '"}',
    "many values": "[" + f'"{SCRIPT}",' * 6_000 + "1]",
    "half a string": '{"a": "' + SCRIPT,
    "a closed tag": f"</pre></textarea>{SCRIPT}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_only_text(admin_client, name):
    """Whatever a payload holds, its page renders, and nothing in it becomes markup."""
    row = rows.outbox_message(payload=HOSTILE[name])
    shown = page(admin_client, row)
    assert (SCRIPT in shown, escape(SCRIPT) in shown) == (False, True)


@pytest.mark.parametrize("field", ["type", "key", "headers", "error"])
def test_no_field_of_a_message_becomes_markup(admin_client, field):
    """A hostile key, type, header or error is escaped on the list and on the inspect page."""
    row = rows.dead_message(**{field: SCRIPT})
    shown = page(admin_client, row)
    assert SCRIPT not in shown + list_page(admin_client, "outboxmessage")


def test_a_traceback_is_preformatted_and_escaped(admin_client):
    """A delivery shows its failed attempts with the traceback as text in <pre>."""
    row = rows.dead_delivery()
    rows.attempt(row, number=2, traceback=f'File "x"\n  {SCRIPT}')
    shown = page(admin_client, row)
    assert re.search(r"<pre[^>]*>File &quot;x&quot;\n  &lt;script&gt;", shown)


def test_a_payload_is_indented(admin_client):
    """The payload is laid out for reading."""
    row = rows.outbox_message(payload='{"order":{"id":1}}')
    assert escape('{\n  "order": {\n    "id": 1\n  }\n}') in page(admin_client, row)


@pytest.mark.parametrize("column", ["correlation_id", "causation_id"])
def test_the_ids_of_a_message_lead_to_its_relatives(admin_client, column):
    """Correlation and causation ids are links to lists that look for them."""
    row = rows.outbox_message(**{column: NUMBER})
    assert f'href="{address("inboxmessage")}?q={NUMBER}"' in page(admin_client, row)


def test_an_inbox_message_shows_its_deliveries(admin_client):
    """The page of an inbox message lists its deliveries, each with a link."""
    row = rows.delivery()
    shown = page(admin_client, row.message)
    assert f'<a href="{path(row)}">shop.handlers.note</a>' in shown


def test_the_deliveries_of_a_message_cannot_be_edited_there(admin_client):
    """The deliveries on the page of an inbox message are to look at only."""
    row = rows.delivery()
    shown = page(admin_client, row.message)
    assert not re.search(r'name="deliveries-0-(?!id|message)', shown)


def test_the_inbox_shows_the_states_of_deliveries(admin_client):
    """The list of the inbox says how far each consumer is."""
    rows.dead_delivery()
    shown = list_page(admin_client, "inboxmessage")
    assert '<span title="shop.handlers.note"><span class="oi-state oi-dead">dead</span>' in shown


def test_a_time_is_told_with_its_full_form(admin_client):
    """Times are relative, with the full time in the title."""
    row = rows.outbox_message(recorded_at=timezone.now() - timezone.timedelta(minutes=3, seconds=9))
    full = row.recorded_at.isoformat(sep=" ", timespec="seconds")
    assert f'title="{full}">3 min ago</time>' in page(admin_client, row)


def test_a_scheduled_message_says_when_it_is_due(admin_client):
    """Beside the state stands when the message will be sent."""
    rows.outbox_message(due_at=timezone.now() + timezone.timedelta(minutes=5, seconds=9))
    assert "in 5 min</time>" in list_page(admin_client, "outboxmessage")


def test_what_lies_in_the_future_is_told_from_what_has_failed(admin_client):
    """A message for later is scheduled; one that failed before is backing off; both are pending."""
    later = timezone.now() + timezone.timedelta(hours=1)
    kept = {
        "scheduled": rows.outbox_message(due_at=later),
        "backing_off": rows.outbox_message(due_at=later, attempts=2),
        "pending": rows.outbox_message(due_at=timezone.now()),
    }
    shown = {name: page(admin_client, row) for name, row in kept.items()}
    for name, each in shown.items():
        label = name.replace("_", " ")
        assert f">{label}</span>" in each.split('field-state_badge"')[1].split("</div>")[0]
    for name in ("scheduled", "backing_off"):
        assert listed(admin_client, "outboxmessage", state__exact=name) == {kept[name].pk}
    everything = {row.pk for row in kept.values()}
    assert listed(admin_client, "outboxmessage", state__exact="pending") == everything


def test_deliveries_that_back_off_are_found(admin_client):
    """They are ready, and have failed before."""
    later = timezone.now() + timezone.timedelta(hours=1)
    rows.delivery()
    row = rows.delivery(due_at=later, attempts=1)
    assert listed(admin_client, "delivery", state__exact="backing_off") == {row.pk}


def test_the_head_of_a_parked_key_leads_to_its_followers(admin_client):
    """A message that blocks its key shows how many others it blocks."""
    head = rows.dead_message(key="a")
    for key in "aab":
        rows.outbox_message(key=key, state="waiting")
    assert "blocks 2 others" in page(admin_client, head)


def test_a_waiting_message_leads_to_the_head_of_its_key(admin_client):
    """A follower links to the one that has to be solved first."""
    head = rows.dead_message(key="a")
    row = rows.outbox_message(key="a", state="waiting")
    shown = page(admin_client, row)
    assert f'blocked by <a href="{path(head)}">' in shown


def test_a_waiting_delivery_leads_to_the_head_of_its_consumer(admin_client):
    """A delivery waits for its own consumer only."""
    rows.dead_delivery(key="a", consumer="shop.handlers.count")
    head = rows.dead_delivery(key="a")
    row = rows.delivery(key="a", state="waiting")
    shown = page(admin_client, row)
    assert f'blocked by <a href="{path(head)}">' in shown


def test_the_page_of_an_event_leads_to_its_stream(admin_client):
    """From one event all of its stream can be reached."""
    row = rows.stored_event(stream="order-4")
    shown = page(admin_client, row)
    target = address("storedevent") + "?context__exact=shop&amp;stream__exact=order-4"
    assert f'<a href="{target}">order-4</a>' in shown


@pytest.mark.parametrize("model", MODELS)
def test_the_inspect_page_has_no_inline_style(admin_client, model):
    """A strict content security policy has nothing of ours to refuse."""
    shown = page(admin_client, MODELS[model]())
    assert not re.search(r"<style|\sstyle=|\son\w+=", shown.split('id="content-main"')[1])


def test_a_row_that_is_gone_is_no_error(admin_client):
    """The address of a pruned message leads back with a message."""
    assert admin_client.get(address("outboxmessage", "change", 10**9)).status_code == 302


def test_looking_leaves_no_trace(admin_client):
    """Lists and inspect pages write no history."""
    page(admin_client, rows.outbox_message())
    assert not LogEntry.objects.exists()


# Snapshots


def test_a_snapshot_leads_to_its_stream_and_shows_what_it_holds(admin_client):
    """The state laid out, and the link to the events that it stands for."""
    row = rows.snapshot(stream="order-4", payload='{"total":"12.50"}')
    shown = page(admin_client, row)
    assert address("storedevent") + "?context__exact=shop&amp;stream__exact=order-4" in shown
    assert "12.50" in shown
    assert str(row.event_id) in shown


def test_a_snapshot_is_found_by_its_stream(admin_client):
    """By the whole name, and no other's."""
    row = rows.snapshot(stream="order-4")
    rows.snapshot(stream="order-42")
    assert listed(admin_client, "snapshot", q="order-4") == {row.pk}


def test_a_hostile_snapshot_is_shown_and_harms_nobody(admin_client):
    """Its texts are escaped, also if they are not JSON."""
    for payload in (f'{{"a":"{SCRIPT}"}}', SCRIPT):
        assert SCRIPT not in page(admin_client, rows.snapshot(payload=payload))


def test_a_message_without_its_texts_says_that_they_were_removed(admin_client):
    """The row is there for its id; an empty payload would look like what was sent."""
    row = rows.inbox_message(emptied_at=timezone.now(), payload="", digest="a:b")
    assert page(admin_client, row).count("removed after RETENTION:") == 2
