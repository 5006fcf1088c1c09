"""The admin's lists: what they show, to whom, and what they cost."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox.admin import listing
from outbox_inbox.models import OutboxMessage
from tests.support import rows
from tests.support.pages import MESSAGES, MODELS, NUMBER, address, list_page, listed, page, path

pytestmark = pytest.mark.django_db


@pytest.fixture
def narrow(client):
    """A staff member who may view deliveries, and nothing else."""
    user = User.objects.create_user("narrow", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_delivery"))
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
def test_a_viewer_sees_the_list(staff, model):
    """The view permission opens the list."""
    row = MODELS[model]()
    assert row.pk in listed(staff(), model)


@pytest.mark.parametrize("model", MODELS)
def test_a_viewer_sees_the_inspect_page(staff, model):
    """The view permission opens the inspect page."""
    row = MODELS[model]()
    assert str(row) in page(staff(), row)


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_add(admin_client, model):
    """Even a superuser has no page to add a row."""
    assert admin_client.get(address(model, "add")).status_code == 403


@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_change(admin_client, model):
    """A row's page takes no changes, not even from a superuser."""
    row = MODELS[model]()
    response = admin_client.post(path(row), {"context": "other"})
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
    assert "delete_selected" not in list_page(admin_client, model)


def test_a_delivery_hides_the_texts_of_a_message_from_who_may_not_see_it(narrow):
    """The payload is shown to those only who may view messages."""
    message = rows.inbox_message(payload='{"secret":1}')
    assert "secret" not in page(narrow, rows.delivery(message))


def test_a_delivery_hides_attempts_from_who_may_not_see_them(narrow):
    """Tracebacks are shown to those only who may view attempts."""
    assert "Traceback" not in page(narrow, rows.dead_delivery())


# Finding


@pytest.mark.parametrize(
    "typed",
    [f"{NUMBER}", NUMBER.hex, f"{{{NUMBER}}}", NUMBER.urn, f"  {NUMBER}  ", f"{NUMBER}".upper()],
)
@pytest.mark.parametrize("model", ["outboxmessage", "inboxmessage", "storedevent"])
def test_a_message_is_found_by_its_id_however_it_is_written(admin_client, model, typed):
    """Every usual way to write a UUID leads to the message, and to no other."""
    MODELS[model]()
    row = MODELS[model](message_id=NUMBER)
    assert listed(admin_client, model, q=typed) == {row.pk}


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
    assert "shop.handlers.note" in list_page(admin_client, "delivery")


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
    assert "sortable" not in list_page(admin_client, model)


def test_a_long_list_says_that_there_is_more(admin_client, monkeypatch):
    """Beyond the rows that can be paged through, the list points to filters and search."""
    monkeypatch.setattr(listing, "MOST_LISTED", 3)
    for _ in range(4):
        rows.outbox_message()
    shown = list_page(admin_client, "outboxmessage")
    assert "more than 3 outbox messages; filter or search for older ones" in shown


def test_all_of_an_uncounted_list_cannot_be_selected(admin_client, monkeypatch):
    """The list offers to select only rows that it has counted."""
    monkeypatch.setattr(listing, "MOST_LISTED", 60)
    for _ in range(61):
        rows.outbox_message()
    assert "Select all 60" not in list_page(admin_client, "outboxmessage")


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
