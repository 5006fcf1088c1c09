"""The admin, where contexts live on several databases: it shows and changes the right one."""

import re
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from outbox_inbox.models import Delivery, OutboxMessage, Partition
from outbox_inbox.queues.partitions import ensure_partitions
from tests.support import rows
from tests.support.pages import MESSAGES, MODELS, act, address, content, list_page, listed, path

pytestmark = pytest.mark.django_db(databases=["default", "other"])

QUEUED = [*MESSAGES, "snapshot"]


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


@pytest.mark.parametrize("model", QUEUED)
def test_a_list_shows_the_database_that_is_asked_for(admin_client: Client, model: str) -> None:
    """?database=other lists the rows there, and without it those of the default database."""
    row = made(model)
    assert listed(admin_client, model, database="other") == {row.pk}
    assert listed(admin_client, model) == set()


@pytest.mark.parametrize("model", QUEUED)
def test_a_context_is_found_on_its_database(admin_client: Client, model: str) -> None:
    """A list that is filtered by a context shows the context's database."""
    row = made(model)
    name = "delivery__context" if model == "deliveryattempt" else "context__exact"
    assert listed(admin_client, model, **{name: "shop"}) == {row.pk}


@pytest.mark.parametrize("model", QUEUED)
def test_the_links_of_a_list_lead_to_the_row(admin_client: Client, model: str) -> None:
    """The page behind a row of the list is that of the row, and not of its namesake elsewhere."""
    row = made(model)
    shown = list_page(admin_client, model, database="other")
    link = re.search(rf'href="({path(row)}[^"]*)"', shown)
    assert link is not None
    response = admin_client.get(link[1].replace("&amp;", "&"))
    assert response.context["original"]._state.db == "other"


def test_all_links_of_a_page_stay_on_its_database(admin_client: Client) -> None:
    """Message, attempts, followers and head are looked for where the delivery is."""
    with on_other():
        head = rows.dead_delivery(key="k")
        rows.delivery(key="k", state="waiting")
    shown = content(admin_client, path(head), database="other")
    links = re.findall(r'href="(/admin/outbox_inbox/[^"]*)"', shown)
    queues = [link for link in links if re.search(r"[?&;](q|\w+__exact)=|/change/", link)]
    assert len(queues) > 4
    assert all("database=other" in link for link in queues)
    assert "blocks 1 other" in shown


def test_an_inbox_message_shows_its_deliveries(admin_client: Client) -> None:
    """The deliveries below a message are those of its database."""
    with on_other():
        row = rows.delivery()
    shown = content(admin_client, path(row.message), database="other")
    assert f"{path(row)}?database=other" in shown


def test_an_action_changes_the_database_of_its_list(admin_client: Client) -> None:
    """Retry on the list of the other database retries there, and is logged."""
    with on_other():
        row = rows.dead_delivery()
    ensure_partitions("other")
    act(admin_client, "retry", row, query="?database=other")
    assert Delivery.objects.using("other").get(pk=row.pk).state == "ready"
    assert LogEntry.objects.filter(object_id=row.pk).count() == 1


def test_a_button_acts_where_its_page_is(admin_client: Client) -> None:
    """The buttons of an inspect page carry its database, and come back to it."""
    with on_other():
        row = rows.dead_message()
    ensure_partitions("other")
    place = f"{path(row)}?database=other"
    form = re.search(r'<form method="post" action="([^"]+)"', content(admin_client, place))
    assert form is not None
    data = {"action": "retry", "_selected_action": [row.pk], "inspect": "1"}
    response = admin_client.post(form[1], data)
    assert response["Location"] == place
    assert OutboxMessage.objects.using("other").get(pk=row.pk).state == "pending"


def test_a_partition_is_paused_on_its_database(admin_client: Client) -> None:
    """The switch of a partition works on the database of its list."""
    ensure_partitions("other")
    row = Partition.objects.using("other").get(context="shop", queue="outbox")
    act(admin_client, "pause", row, query="?database=other")
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
    assert listed(admin_client, "outboxmessage") == {row.pk}


def test_an_unknown_database_is_the_usual_one(admin_client: Client) -> None:
    """An alias that no context lives on, or that does not exist, shows the default database."""
    row = rows.outbox_message()
    assert listed(admin_client, "outboxmessage", database="nowhere") == {row.pk}
