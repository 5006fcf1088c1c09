"""The admin, where contexts live on several databases: it shows and changes the right one."""

import re
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from outbox_inbox.models import Delivery, OutboxMessage, Partition
from outbox_inbox.queues.partitions import ensure_partitions
from tests.support import rows

pytestmark = pytest.mark.django_db(databases=["default", "other"])

MODELS = {
    "outboxmessage": rows.outbox_message,
    "inboxmessage": rows.inbox_message,
    "delivery": rows.delivery,
    "deliveryattempt": rows.attempt,
    "storedevent": rows.stored_event,
    "snapshot": rows.snapshot,
}


@pytest.fixture(autouse=True)
def apart(settings: Any) -> None:
    """Shop and its queues are on the other database, everything else is on the default one."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}


def made(name: str, **given: Any) -> Any:
    """Make a row on the other database."""
    with on_other():
        return MODELS[name](**given)


def on_other() -> Any:
    """Let the rows of the tests be made on the other database."""
    return patch("django.db.router.db_for_write", lambda model, **hints: "other")


def address(model: str, page: str = "changelist", *args: object) -> str:
    """Return the path of a page."""
    return reverse(f"admin:outbox_inbox_{model}_{page}", args=args)


@pytest.mark.parametrize("model", MODELS)
def test_a_list_shows_the_database_that_is_asked_for(admin_client: Client, model: str) -> None:
    """?database=other lists the rows there, and without it those of the default database."""
    row = made(model)
    there = admin_client.get(address(model), {"database": "other"})
    here = admin_client.get(address(model))
    assert [each.pk for each in there.context["cl"].result_list] == [row.pk]
    assert list(here.context["cl"].result_list) == []


@pytest.mark.parametrize("model", MODELS)
def test_a_context_is_found_on_its_database(admin_client: Client, model: str) -> None:
    """A list that is filtered by a context shows the context's database."""
    row = made(model)
    name = "delivery__context" if model == "deliveryattempt" else "context__exact"
    found = admin_client.get(address(model), {name: "shop"})
    assert [each.pk for each in found.context["cl"].result_list] == [row.pk]


@pytest.mark.parametrize("model", MODELS)
def test_the_links_of_a_list_lead_to_the_row(admin_client: Client, model: str) -> None:
    """The page behind a row of the list is that of the row, and not of its namesake elsewhere."""
    row = made(model)
    listed = admin_client.get(address(model), {"database": "other"}).content.decode()
    link = re.search(rf'href="({address(model, "change", row.pk)}[^"]*)"', listed)
    assert link is not None
    page = admin_client.get(link[1].replace("&amp;", "&"))
    assert page.status_code == 200
    assert page.context["original"]._state.db == "other"


def test_all_links_of_a_page_stay_on_its_database(admin_client: Client) -> None:
    """Message, attempts, followers and head are looked for where the delivery is."""
    with on_other():
        head = rows.dead_delivery(key="k")
        rows.delivery(key="k", state="waiting")
    page = admin_client.get(address("delivery", "change", head.pk), {"database": "other"})
    links = re.findall(r'href="(/admin/outbox_inbox/[^"]*)"', page.content.decode())
    queues = [link for link in links if re.search(r"[?&;](q|\w+__exact)=|/change/", link)]
    assert len(queues) > 4
    assert all("database=other" in link for link in queues)
    assert "blocks 1 other" in page.content.decode()


def test_an_inbox_message_shows_its_deliveries(admin_client: Client) -> None:
    """The deliveries below a message are those of its database."""
    with on_other():
        row = rows.delivery()
    page = admin_client.get(
        address("inboxmessage", "change", row.message_id), {"database": "other"}
    )
    assert f"{address('delivery', 'change', row.pk)}?database=other" in page.content.decode()


def test_an_action_changes_the_database_of_its_list(admin_client: Client) -> None:
    """Retry on the list of the other database retries there, and is logged."""
    with on_other():
        row = rows.dead_delivery()
    ensure_partitions("other")
    data = {"action": "retry", "_selected_action": [row.pk]}
    admin_client.post(f"{address('delivery')}?database=other", data)
    assert Delivery.objects.using("other").get(pk=row.pk).state == "ready"
    assert LogEntry.objects.filter(object_id=row.pk).count() == 1


def test_a_button_acts_where_its_page_is(admin_client: Client) -> None:
    """The buttons of an inspect page carry its database, and come back to it."""
    with on_other():
        row = rows.dead_message()
    ensure_partitions("other")
    path = f"{address('outboxmessage', 'change', row.pk)}?database=other"
    form = re.search(
        r'<form method="post" action="([^"]+)"', admin_client.get(path).content.decode()
    )
    assert form is not None
    data = {"action": "retry", "_selected_action": [row.pk], "inspect": "1"}
    response = admin_client.post(form[1], data)
    assert response["Location"] == path
    assert OutboxMessage.objects.using("other").get(pk=row.pk).state == "pending"


def test_a_partition_is_paused_on_its_database(admin_client: Client) -> None:
    """The switch of a partition works on the database of its list."""
    ensure_partitions("other")
    row = Partition.objects.using("other").get(context="shop", queue="outbox")
    data = {"action": "pause", "_selected_action": [row.pk]}
    admin_client.post(f"{address('partition')}?database=other", data)
    assert Partition.objects.using("other").get(pk=row.pk).paused


def test_the_databases_can_be_chosen(admin_client: Client) -> None:
    """The filter offers the databases of the contexts, and shows which one is on the page."""
    page = admin_client.get(address("delivery"), {"context__exact": "shop"})
    (chosen,) = [
        choice["display"]
        for spec in page.context["cl"].filter_specs
        if spec.title == "database"
        for choice in spec.choices(page.context["cl"])
        if choice["selected"]
    ]
    assert chosen == "other"
    assert "database=default" in page.content.decode()


def test_one_database_needs_no_choice(admin_client: Client, settings: Any) -> None:
    """If all contexts use one database, the list has no such filter."""
    settings.OUTBOX_INBOX = {}
    page = admin_client.get(address("delivery"))
    assert "database" not in [str(spec.title) for spec in page.context["cl"].filter_specs]


def test_the_default_database_may_have_no_context(admin_client: Client, settings: Any) -> None:
    """Where no context lives on the default database, a list shows the first one that has some."""
    labels = ("shop", "depot", "ordering", "shipping")
    settings.OUTBOX_INBOX = {"CONTEXTS": {label: {"database": "other"} for label in labels}}
    row = made("outboxmessage")
    found = admin_client.get(address("outboxmessage"))
    assert [each.pk for each in found.context["cl"].result_list] == [row.pk]


def test_an_unknown_database_is_the_usual_one(admin_client: Client) -> None:
    """An alias that no context lives on, or that does not exist, shows the default database."""
    row = rows.outbox_message()
    found = admin_client.get(address("outboxmessage"), {"database": "nowhere"})
    assert [each.pk for each in found.context["cl"].result_list] == [row.pk]
