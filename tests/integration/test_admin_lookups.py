"""What an address of the admin may ask for: the look-ups of its filters and links, and no other."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User

from outbox_inbox.admin.base import QueueAdmin
from outbox_inbox.admin.databases import DatabaseFilter
from outbox_inbox.models import OutboxMessage
from tests.support import rows
from tests.support.pages import act, address, listed, path, state

pytestmark = pytest.mark.django_db

PAGES = {
    model._meta.model_name: page
    for model, page in admin.site._registry.items()
    if isinstance(page, QueueAdmin)
}
FORBIDDEN = [
    ("payload__regex", "("),
    ("payload__contains", "a"),
    ("payload__startswith", "a"),
    ("message__payload__contains", "a"),
    ("delivery__message__payload__contains", "a"),
    ("headers__contains", "a"),
    ("traceback__icontains", "a"),
    ("state__regex", "("),
    ("key__regex", "("),
    ("key__gt", "a"),
    ("context__iregex", "["),
    ("id__in", "a"),
    ("pk__range", "1"),
    ("partition__range", ""),
    ("partition__in", "x"),
    ("number__range", "1"),
    ("attempts__gte", "9" * 400),
    ("recorded_at__year", "-1"),
    ("recorded_at__week_day", "x"),
    ("finished_at__isnull", "maybe"),
    ("nothing__exact", "1"),
]  # fmt: skip
NUL = "\0"
VALUES = (NUL, "x", "9" * 400, "")
TERMS = (*VALUES, f"a{NUL}b", f"key:{NUL}", f"#{NUL}", "#1", "#" + "9" * 400)
KEYS = ("_00", "x", "9" * 400, "-1", "%F0%9F%98%80")


def names_of(model):
    """Return what an address of a list may have: its look-ups, and what every list of Django has."""
    page = PAGES[model]
    filters = {
        f"{each}__exact" if isinstance(each, str) else each.parameter_name
        for each in (DatabaseFilter, *page.list_filter)
    }
    return filters | {*page.linked, "q", "p", "o", "e", "all"}


def statuses(client, places):
    """Return the status of each place, or what was raised."""
    return {ascii(place)[:80]: client.get(*place).status_code for place in places}


@pytest.mark.parametrize("model", PAGES)
def test_another_lookup_is_refused(admin_client, model):
    """It is a bad request, and never an error of the server."""
    found = statuses(admin_client, [(address(model), {name: value}) for name, value in FORBIDDEN])
    assert set(found.values()) == {400}, found


@pytest.mark.parametrize("model", PAGES)
def test_no_value_in_an_address_is_an_error_of_the_server(admin_client, model):
    """NUL, which PostgreSQL's text cannot contain, and whatever fits no column."""
    places = [(address(model), {name: value}) for name in names_of(model) for value in VALUES]
    found = statuses(admin_client, places)
    assert set(found.values()) <= {200, 302, 400}, found


@pytest.mark.parametrize("model", PAGES)
def test_no_search_is_an_error_of_the_server(admin_client, model):
    """For NUL, numbers that no column holds, escapes, and characters of four bytes."""
    found = statuses(admin_client, [(address(model), {"q": term}) for term in TERMS])
    assert set(found.values()) == {200}, found


@pytest.mark.parametrize("model", PAGES)
def test_no_key_in_an_address_is_an_error_of_the_server(admin_client, model):
    """The key of a row is part of the address of its page."""
    found = statuses(admin_client, [(f"{address(model)}{key}/change/",) for key in KEYS])
    assert set(found.values()) <= {302, 404}, found


@pytest.mark.parametrize(
    "key", [NUL, "x", "9" * 400, "-1", "1 OR 1=1"], ids=lambda each: ascii(each[:5])
)
@pytest.mark.parametrize("inspect", [{}, {"inspect": "1"}], ids=["list", "page"])
def test_an_action_on_a_key_that_no_page_has_is_refused(admin_client, key, inspect):
    """It is a bad request, and changes nothing."""
    row = rows.dead_message()
    data = {"action": "retry", "_selected_action": [str(row.pk), key], **inspect}
    assert admin_client.post(address("outboxmessage"), data).status_code == 400
    assert state(row) == "dead"


def test_no_lookup_finds_out_a_payload_without_the_permission_to_see_it(client):
    """By deliveries whose messages have something in their payload."""
    user = User.objects.create_user("narrow", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_delivery"))
    client.force_login(user)
    rows.delivery(rows.inbox_message(payload='{"card":"4111"}'))
    found = {"message__payload__contains": "4111"}
    assert client.get(address("delivery"), found).status_code == 400


def test_the_lookups_of_links_are_allowed(admin_client):
    """Those that lead from one page to another."""
    head = rows.dead_message(key="a")
    follower = rows.outbox_message(key="a", state="waiting")
    same = {"context__exact": "shop", "key__exact": "a"}
    assert listed(admin_client, "outboxmessage", state__exact="waiting", **same) == {follower.pk}
    shown = admin_client.get(path(head)).content.decode()
    assert "key__exact=a" in shown
    assert OutboxMessage.objects.count() == 2


def test_an_action_is_logged_with_its_reason_made_visible(admin_client):
    """A reason is a text, too."""
    row = rows.dead_message()
    act(admin_client, "discard", row, reason="a\u202eb", total=1)
    assert state(row) == "discarded"
    assert (
        "\\u202e" in admin_client.get(address("outboxmessage", "history", row.pk)).content.decode()
    )
