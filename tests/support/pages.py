"""The pages of the admin, as an operator and a browser ask for them."""

from typing import Any
from uuid import UUID

from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db.models import Model
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from tests.support import rows

MODELS = {
    "outboxmessage": rows.outbox_message,
    "inboxmessage": rows.inbox_message,
    "delivery": rows.delivery,
    "deliveryattempt": rows.attempt,
    "storedevent": rows.stored_event,
    "snapshot": rows.snapshot,
    "partition": rows.partition,
    "quarantinedmessage": rows.quarantined,
    "operatoraction": rows.operator_action,
}
"""Name of a model -> what makes a row of it."""
NO_EVENTS = ("partition", "quarantinedmessage", "snapshot", "operatoraction")
MESSAGES = [name for name in MODELS if name not in NO_EVENTS]
SCRIPT = "<script>alert('owned')</script>"
NUMBER = UUID("0190f3a1-7c00-7000-8000-00000000abcd")


def address(model: str, page: str = "changelist", *args: object) -> str:
    """Return the path of a page."""
    return reverse(f"admin:outbox_inbox_{model}_{page}", args=args)


def path(row: Model) -> str:
    """Return the path of the inspect page of a row."""
    return address(str(row._meta.model_name), "change", row.pk)


def listed(client: Client, model: str, **query: str) -> set[int]:
    """Return the keys of the rows that a list shows."""
    return {row.pk for row in client.get(address(model), query).context["cl"].result_list}


def list_page(client: Client, model: str, **query: str) -> str:
    """Return a list."""
    return content(client, address(model), **query)


def page(client: Client, row: Model) -> str:
    """Return an inspect page."""
    return content(client, path(row))


def content(client: Client, place: str, **query: str) -> str:
    """Return a page, which must exist."""
    response = client.get(place, query)
    assert response.status_code == 200
    return response.content.decode()


def act(client: Client, action: str, *chosen: Any, query: str = "", **data: object) -> HttpResponse:
    """Choose rows on their list, and run an action."""
    keys = [row.pk for row in chosen]
    place = address(chosen[0]._meta.model_name) + query
    return client.post(place, {"action": action, "_selected_action": keys, **data})


def messages_of(response: Any) -> list[str]:
    """Return what the page will say to the operator."""
    return [str(message) for message in get_messages(response.wsgi_request)]


def history(row: Model) -> list[str]:
    """Return the log entries of a row, oldest first."""
    entries = LogEntry.objects.filter(
        object_id=str(row.pk), content_type__model=row._meta.model_name
    )
    return [f"{entry.user}: {entry.get_change_message()}" for entry in entries.order_by("pk")]


def state(row: Any) -> str:
    """Return the state that is stored."""
    return type(row).objects.get(pk=row.pk).state
