"""Processes in the admin: to look at, whatever is in them."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from outbox_inbox.models import ProcessState

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert('owned')</script>"
NUMBER = "0190f3a1-7c00-7000-8000-00000000abcd"


def made(key: str = "42", **changes: Any) -> ProcessState:
    """Store an instance."""
    now = timezone.now()
    values = {
        "context": "ordering",
        "process": "ordering.watch",
        "key": key,
        "schema_version": 1,
        "state": '{"required_on":"2018-05-06"}',
        "time_outs": json.dumps({"overdue": {"id": NUMBER, "at": now.isoformat()}}),
        "created_at": now,
        "started_at": now,
        "changed_at": now,
    }
    return ProcessState.objects.create(**values | changes)


def shown(client: Client, *args: Any, **query: str) -> str:
    """Return the list, or the page of one row."""
    name = "change" if args else "changelist"
    response = client.get(reverse(f"admin:outbox_inbox_processstate_{name}", args=args), query)
    assert response.status_code == 200
    return response.content.decode()


def test_an_instance_is_shown_with_its_state_and_time_outs(admin_client: Client) -> None:
    """The page says what it remembers and waits for."""
    page = shown(admin_client, made().pk)
    assert all(text in page for text in ("2018-05-06", "overdue", NUMBER, "running"))


@pytest.mark.parametrize("field", ["state", "time_outs", "early", "key", "process"])
def test_hostile_text_is_only_text(admin_client: Client, field: str) -> None:
    """Nothing of a row becomes markup, and nothing in it breaks a page."""
    row = made(**{field: SCRIPT})
    assert SCRIPT not in shown(admin_client) + shown(admin_client, row.pk)
    assert escape(SCRIPT) in shown(admin_client, row.pk)


def test_instances_are_filtered_by_how_far_they_are(admin_client: Client) -> None:
    """Running, finished, and those that wait for their start."""
    now = timezone.now() + timedelta(0)
    made("runs")
    made("over", finished_at=now)
    made("soon", started_at=None)
    for standing, key in (("running", "runs"), ("finished", "over"), ("early", "soon")):
        page = shown(admin_client, standing=standing)
        assert [each for each in ("runs", "over", "soon") if f">{each}<" in page] == [key]


def test_an_instance_is_found_by_its_key(admin_client: Client) -> None:
    """The whole key, not a part of it."""
    made("42")
    made("421")
    page = shown(admin_client, q="42")
    assert (">42<" in page, ">421<" in page) == (True, False)


def test_nobody_may_change_an_instance(admin_client: Client) -> None:
    """The page is read-only."""
    row = made()
    address = reverse("admin:outbox_inbox_processstate_change", args=[row.pk])
    assert admin_client.post(address, {"state": "{}"}).status_code == 403
    assert admin_client.get(address.replace("change/", "delete/")).status_code == 403
