"""The admin's lists and inspect pages: what they show, to whom, and what they cost."""

import re
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from outbox_inbox.admin import listing
from outbox_inbox.models import OutboxMessage
from tests.support import rows

pytestmark = pytest.mark.django_db

MODELS = {
    "outboxmessage": rows.outbox_message,
    "inboxmessage": rows.inbox_message,
    "delivery": rows.delivery,
    "deliveryattempt": rows.attempt,
    "storedevent": rows.stored_event,
    "snapshot": rows.snapshot,
    "partition": rows.partition,
    "quarantinedmessage": rows.quarantined,
}
MESSAGES = [name for name in MODELS if name not in ("partition", "quarantinedmessage", "snapshot")]
SCRIPT = "<script>alert('owned')</script>"
NUMBER = UUID("0190f3a1-7c00-7000-8000-00000000abcd")


def address(model: str, page: str = "changelist", *args: object) -> str:
    """Return the path of a page."""
    return reverse(f"admin:outbox_inbox_{model}_{page}", args=args)


def listed(client: Client, model: str, **query: str) -> set[int]:
    """Return the keys of the rows that a list shows."""
    return {row.pk for row in client.get(address(model), query).context["cl"].result_list}


def page(client: Client, model: str, row: object) -> str:
    """Return an inspect page."""
    response = client.get(address(model, "change", row.pk))
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def viewer():
    """A staff member who may view everything, and do nothing."""
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="outbox_inbox", codename__startswith="view_"
        )
    )
    client = Client()
    client.force_login(user)
    return client


# Who sees what


@pytest.mark.parametrize("model", MODELS)
def test_a_stranger_is_sent_to_the_login(client, model):
    """A list requires a login."""
    assert client.get(address(model)).status_code == 302


@pytest.mark.parametrize("model", MODELS)
def test_staff_without_permission_see_nothing(client, model):
    """Being staff is not enough to look at messages."""
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.get(address(model)).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_a_viewer_sees_the_list(viewer, model):
    """The view permission opens the list."""
    row = MODELS[model]()
    assert row.pk in listed(viewer, model)


@pytest.mark.parametrize("model", MODELS)
def test_a_viewer_sees_the_inspect_page(viewer, model):
    """The view permission opens the inspect page."""
    row = MODELS[model]()
    assert str(row) in page(viewer, model, row)


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_add(admin_client, model):
    """Even a superuser has no page to add a row."""
    assert admin_client.get(address(model, "add")).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_change(admin_client, model):
    """A row's page takes no changes, not even from a superuser."""
    row = MODELS[model]()
    response = admin_client.post(address(model, "change", row.pk), {"context": "other"})
    assert response.status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_delete(admin_client, model):
    """Even a superuser has no page to delete a row."""
    row = MODELS[model]()
    response = admin_client.post(address(model, "delete", row.pk), {"post": "yes"})
    assert response.status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_there_is_no_action_to_delete(admin_client, model):
    """Django's own action to delete rows is not offered."""
    MODELS[model]()
    assert b"delete_selected" not in admin_client.get(address(model)).content


def test_a_delivery_hides_the_texts_of_a_message_from_who_may_not_see_it(client):
    """The payload is shown to those only who may view messages."""
    user = User.objects.create_user("narrow", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_delivery"))
    client.force_login(user)
    message = rows.inbox_message(payload='{"secret":1}')
    assert "secret" not in page(client, "delivery", rows.delivery(message))


def test_a_delivery_hides_attempts_from_who_may_not_see_them(client):
    """Tracebacks are shown to those only who may view attempts."""
    user = User.objects.create_user("narrow", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_delivery"))
    client.force_login(user)
    assert "Traceback" not in page(client, "delivery", rows.dead_delivery())


# Finding


@pytest.mark.parametrize(
    "typed", ["{0}", "{0.hex}", "{{{0}}}", "urn:uuid:{0}", "  {0}  "], ids=str.strip
)
@pytest.mark.parametrize("model", ["outboxmessage", "inboxmessage", "storedevent"])
def test_a_message_is_found_by_its_id_however_it_is_written(admin_client, model, typed):
    """Every usual way to write a UUID leads to the message, and to no other."""
    MODELS[model]()
    row = MODELS[model](message_id=NUMBER)
    assert listed(admin_client, model, q=typed.format(NUMBER)) == {row.pk}


def test_an_id_may_be_in_capitals(admin_client):
    """A UUID copied from elsewhere may be in upper case."""
    row = rows.outbox_message(message_id=NUMBER)
    assert listed(admin_client, "outboxmessage", q=str(NUMBER).upper()) == {row.pk}


@pytest.mark.parametrize("model", ["outboxmessage", "inboxmessage", "storedevent"])
def test_a_correlation_id_finds_the_whole_conversation(admin_client, model):
    """All messages with the correlation id are found, and no other."""
    MODELS[model]()
    found = {MODELS[model](correlation_id=NUMBER).pk for _ in range(2)}
    assert listed(admin_client, model, q=str(NUMBER)) == found


def test_a_message_id_finds_its_deliveries(admin_client):
    """A delivery is found by the id of its message."""
    rows.delivery()
    row = rows.delivery(rows.inbox_message(message_id=NUMBER))
    assert listed(admin_client, "delivery", q=str(NUMBER)) == {row.pk}


def test_a_message_id_finds_its_attempts(admin_client):
    """A failed attempt is found by the id of its message."""
    rows.attempt()
    row = rows.attempt(rows.delivery(rows.inbox_message(message_id=NUMBER)))
    assert listed(admin_client, "deliveryattempt", q=str(NUMBER)) == {row.pk}


@pytest.mark.parametrize("model", ["outboxmessage", "inboxmessage", "storedevent", "delivery"])
def test_a_key_is_found_whole(admin_client, model):
    """A key is found when it is typed in full; part of a key finds nothing else."""
    MODELS[model](key="order-42")
    row = MODELS[model](key="order-4")
    assert listed(admin_client, model, q="order-4") == {row.pk}


def test_a_key_finds_its_attempts(admin_client):
    """A failed attempt is found by the key of its delivery."""
    rows.attempt()
    row = rows.attempt(rows.delivery(key="order-4"))
    assert listed(admin_client, "deliveryattempt", q="order-4") == {row.pk}


def test_a_key_may_look_like_an_id(admin_client):
    """A UUID that no message has as its id is looked for as a key."""
    row = rows.outbox_message(key=str(NUMBER))
    assert listed(admin_client, "outboxmessage", q=str(NUMBER)) == {row.pk}


def test_a_search_may_be_for_a_key_only(admin_client):
    """With key: before it, a UUID is a key also where it is a message's id."""
    rows.outbox_message(message_id=NUMBER)
    row = rows.outbox_message(key=str(NUMBER))
    assert listed(admin_client, "outboxmessage", q=f"key:{NUMBER}") == {row.pk}


def test_a_stream_finds_its_events(admin_client):
    """A stream is found by its name, in any context."""
    rows.stored_event()
    found = {rows.stored_event(stream="order-4", version=n, context="depot").pk for n in (1, 2)}
    assert listed(admin_client, "storedevent", q="order-4") == found


def test_a_row_is_found_by_its_number(admin_client):
    """A number after # is the row's own."""
    rows.outbox_message()
    row = rows.outbox_message()
    assert listed(admin_client, "outboxmessage", q=f"#{row.pk}") == {row.pk}


@pytest.mark.parametrize(
    "typed", ["#", "#x", "#99999999999999999999", "#²", "'", "%", "\\", "x" * 999]
)
@pytest.mark.parametrize("model", MESSAGES)
def test_nonsense_finds_nothing(admin_client, model, typed):
    """Whatever is typed, the list answers."""
    MODELS[model]()
    assert listed(admin_client, model, q=typed) == set()


@pytest.mark.parametrize("state", ["pending", "waiting", "sent", "dead", "discarded"])
def test_the_outbox_is_filtered_by_state(admin_client, state):
    """The state filter shows messages of that state, whether due at once or at a time."""
    found = {rows.outbox_message(state=state, due_at=due).pk for due in (None, timezone.now())}
    rows.outbox_message(state="dead" if state != "dead" else "sent")
    assert listed(admin_client, "outboxmessage", state__exact=state) == found


def test_a_list_is_filtered_by_context(admin_client):
    """The context filter shows messages of that context."""
    rows.outbox_message(context="depot")
    row = rows.outbox_message(context="shop")
    assert listed(admin_client, "outboxmessage", context__exact="shop") == {row.pk}


def test_attempts_are_filtered_by_the_context_of_their_delivery(admin_client):
    """The context filter of attempts goes by the delivery that failed."""
    rows.attempt(rows.delivery(rows.inbox_message(context="depot")))
    row = rows.attempt()
    assert listed(admin_client, "deliveryattempt", delivery__context="shop") == {row.pk}


def test_heads_of_parked_keys_are_found(admin_client):
    """The key filter shows what has to be solved before others can go on."""
    rows.outbox_message()
    row = rows.dead_message(key="a")
    assert listed(admin_client, "outboxmessage", holds__exact="1") == {row.pk}


def test_a_filter_offers_what_the_project_declares(admin_client):
    """Consumers are offered by name without asking the table for them."""
    assert b"shop.handlers.note" in admin_client.get(address("delivery")).content


def test_a_filter_takes_a_value_that_is_not_declared_any_more(admin_client):
    """A consumer that was removed can still be filtered by, through the address."""
    rows.delivery()
    row = rows.delivery(consumer="shop.handlers.removed")
    assert listed(admin_client, "delivery", consumer__exact="shop.handlers.removed") == {row.pk}


@pytest.mark.parametrize("column", ["state", "context", "type"])
def test_a_filter_survives_nul(admin_client, column):
    """A NUL in an address finds nothing, on databases whose text cannot hold one as well."""
    assert listed(admin_client, "outboxmessage", **{f"{column}__exact": "\0"}) == set()


# What a list costs


def queries(client: Client, model: str) -> list[str]:
    """Return the statements that a list runs."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address(model)).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("model", MESSAGES)
def test_a_list_needs_few_queries_for_any_number_of_rows(admin_client, model):
    """The number of queries is small and the same for 1 row and for a full page."""
    MODELS[model]()
    few = len(queries(admin_client, model))
    for _ in range(20):
        MODELS[model]()
    assert len(queries(admin_client, model)) == few <= 6


@pytest.mark.parametrize("model", MESSAGES)
def test_a_list_leaves_the_texts_where_they_are(admin_client, model):
    """Payloads, headers and tracebacks are not fetched for a list."""
    MODELS[model]()
    assert not re.search(r"payload|headers|traceback", "".join(queries(admin_client, model)))


@pytest.mark.parametrize("model", MODELS)
def test_a_list_counts_no_whole_table(admin_client, model):
    """Every count stops at a limit."""
    MODELS[model]()
    counts = [sql for sql in queries(admin_client, model) if "COUNT(" in sql]
    assert [sql for sql in counts if "LIMIT 10001" not in sql] == []


def test_a_list_cannot_be_sorted_by_a_column_without_index(admin_client):
    """The newest rows come first, whatever order the address asks for."""
    first, second = rows.outbox_message(key="a"), rows.outbox_message(key="b")
    response = admin_client.get(address("outboxmessage"), {"o": "3"})
    assert list(response.context["cl"].result_list) == [second, first]


@pytest.mark.parametrize("model", MODELS)
def test_no_column_offers_to_be_sorted_by(admin_client, model):
    """The headings of a list are not links."""
    MODELS[model]()
    assert b"sortable" not in admin_client.get(address(model)).content


def test_a_long_list_says_that_there_is_more(admin_client, monkeypatch):
    """Beyond the rows that can be paged through, the list points to filters and search."""
    monkeypatch.setattr(listing, "MOST_LISTED", 3)
    for _ in range(4):
        rows.outbox_message()
    shown = admin_client.get(address("outboxmessage")).content.decode()
    assert "more than 3 outbox messages; filter or search for older ones" in shown


def test_all_of_an_uncounted_list_cannot_be_selected(admin_client, monkeypatch):
    """The list offers to select only rows that it has counted."""
    monkeypatch.setattr(listing, "MOST_LISTED", 60)
    for _ in range(61):
        rows.outbox_message()
    assert b"Select all 60" not in admin_client.get(address("outboxmessage")).content


@pytest.mark.postgres
def test_the_partial_indexes_serve_the_filter_by_state(admin_client):
    """Among many sent messages the few that are pending are found without reading the table."""
    template = rows.outbox_message(state="sent")
    columns = [
        field.attname for field in OutboxMessage._meta.concrete_fields if not field.primary_key
    ]
    fresh = [
        "gen_random_uuid()" if column in {"message_id", "correlation_id"} else column
        for column in columns
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO outbox_inbox_outboxmessage ({', '.join(columns)})"
            f" SELECT {', '.join(fresh)} FROM outbox_inbox_outboxmessage,"
            " generate_series(1, 20000) WHERE id = %s",
            [template.pk],
        )
        cursor.execute("ANALYZE outbox_inbox_outboxmessage")
    listing_page = admin_client.get(address("outboxmessage"), {"state__exact": "pending"})
    plan = listing_page.context["cl"].queryset.explain()
    assert "outbox_inbox_out_pending" in plan, plan


# Inspecting

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
    shown = page(admin_client, "outboxmessage", row)
    assert (SCRIPT in shown, escape(SCRIPT) in shown) == (False, True)


@pytest.mark.parametrize("field", ["type", "key", "headers", "error"])
def test_no_field_of_a_message_becomes_markup(admin_client, field):
    """A hostile key, type, header or error is escaped on the list and on the inspect page."""
    row = rows.dead_message(**{field: SCRIPT})
    shown = page(admin_client, "outboxmessage", row)
    assert SCRIPT not in shown + admin_client.get(address("outboxmessage")).content.decode()


def test_a_traceback_is_preformatted_and_escaped(admin_client):
    """A delivery shows its failed attempts with the traceback as text in <pre>."""
    row = rows.dead_delivery()
    rows.attempt(row, number=2, traceback=f'File "x"\n  {SCRIPT}')
    shown = page(admin_client, "delivery", row)
    assert re.search(r"<pre[^>]*>File &quot;x&quot;\n  &lt;script&gt;", shown)


def test_a_payload_is_indented(admin_client):
    """The payload is laid out for reading."""
    row = rows.outbox_message(payload='{"order":{"id":1}}')
    assert escape('{\n  "order": {\n    "id": 1\n  }\n}') in page(
        admin_client, "outboxmessage", row
    )


@pytest.mark.parametrize("column", ["correlation_id", "causation_id"])
def test_the_ids_of_a_message_lead_to_its_relatives(admin_client, column):
    """Correlation and causation ids are links to lists that look for them."""
    row = rows.outbox_message(**{column: NUMBER})
    assert f'href="{address("inboxmessage")}?q={NUMBER}"' in page(
        admin_client, "outboxmessage", row
    )


def test_an_inbox_message_shows_its_deliveries(admin_client):
    """The page of an inbox message lists its deliveries, each with a link."""
    row = rows.delivery()
    shown = page(admin_client, "inboxmessage", row.message)
    assert f'<a href="{address("delivery", "change", row.pk)}">shop.handlers.note</a>' in shown


def test_the_deliveries_of_a_message_cannot_be_edited_there(admin_client):
    """The deliveries on the page of an inbox message are to look at only."""
    row = rows.delivery()
    shown = page(admin_client, "inboxmessage", row.message)
    assert not re.search(r'name="deliveries-0-(?!id|message)', shown)


def test_the_inbox_shows_the_states_of_deliveries(admin_client):
    """The list of the inbox says how far each consumer is."""
    rows.dead_delivery()
    shown = admin_client.get(address("inboxmessage")).content.decode()
    assert '<span title="shop.handlers.note"><span class="oi-state oi-dead">dead</span>' in shown


def test_a_time_is_told_with_its_full_form(admin_client):
    """Times are relative, with the full time in the title."""
    row = rows.outbox_message(recorded_at=timezone.now() - timezone.timedelta(minutes=3, seconds=9))
    full = row.recorded_at.isoformat(sep=" ", timespec="seconds")
    assert f'title="{full}">3 min ago</time>' in page(admin_client, "outboxmessage", row)


def test_a_scheduled_message_says_when_it_is_due(admin_client):
    """Beside the state stands when the message will be sent."""
    rows.outbox_message(due_at=timezone.now() + timezone.timedelta(minutes=5, seconds=9))
    assert b"in 5 min</time>" in admin_client.get(address("outboxmessage")).content


def test_what_lies_in_the_future_is_told_from_what_has_failed(admin_client):
    """A message for later is scheduled; one that failed before is backing off; both are pending."""
    later = timezone.now() + timezone.timedelta(hours=1)
    kept = {
        "scheduled": rows.outbox_message(due_at=later),
        "backing_off": rows.outbox_message(due_at=later, attempts=2),
        "pending": rows.outbox_message(due_at=timezone.now()),
    }
    shown = {name: page(admin_client, "outboxmessage", row) for name, row in kept.items()}
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
    assert "blocks 2 others" in page(admin_client, "outboxmessage", head)


def test_a_waiting_message_leads_to_the_head_of_its_key(admin_client):
    """A follower links to the one that has to be solved first."""
    head = rows.dead_message(key="a")
    row = rows.outbox_message(key="a", state="waiting")
    shown = page(admin_client, "outboxmessage", row)
    assert f'blocked by <a href="{address("outboxmessage", "change", head.pk)}">' in shown


def test_a_waiting_delivery_leads_to_the_head_of_its_consumer(admin_client):
    """A delivery waits for its own consumer only."""
    rows.dead_delivery(key="a", consumer="shop.handlers.count")
    head = rows.dead_delivery(key="a")
    row = rows.delivery(key="a", state="waiting")
    shown = page(admin_client, "delivery", row)
    assert f'blocked by <a href="{address("delivery", "change", head.pk)}">' in shown


def test_the_page_of_an_event_leads_to_its_stream(admin_client):
    """From one event all of its stream can be reached."""
    row = rows.stored_event(stream="order-4")
    shown = page(admin_client, "storedevent", row)
    target = address("storedevent") + "?context__exact=shop&amp;stream__exact=order-4"
    assert f'<a href="{target}">order-4</a>' in shown


@pytest.mark.parametrize("model", MODELS)
def test_the_inspect_page_has_no_inline_style(admin_client, model):
    """A strict content security policy has nothing of ours to refuse."""
    shown = page(admin_client, model, MODELS[model]())
    assert not re.search(r"<style|\sstyle=|\son\w+=", shown.split('id="content-main"')[1])


def test_a_row_that_is_gone_is_no_error(admin_client):
    """The address of a pruned message leads back with a message."""
    assert admin_client.get(address("outboxmessage", "change", 10**9)).status_code == 302


def test_looking_leaves_no_trace(admin_client):
    """Lists and inspect pages write no history."""
    page(admin_client, "outboxmessage", rows.outbox_message())
    assert not LogEntry.objects.exists()


# Snapshots


def test_a_snapshot_leads_to_its_stream_and_shows_what_it_holds(admin_client):
    """The state laid out, and the link to the events that it stands for."""
    row = rows.snapshot(stream="order-4", payload='{"total":"12.50"}')
    shown = page(admin_client, "snapshot", row)
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
        assert SCRIPT not in page(admin_client, "snapshot", rows.snapshot(payload=payload))
