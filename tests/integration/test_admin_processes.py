"""Processes in the admin: to look at, whatever is in them."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from outbox_inbox.models import Delivery, OutboxMessage, ProcessState
from tests.support import rows
from tests.support.pages import NUMBER, SCRIPT, address, list_page, page, path

pytestmark = pytest.mark.django_db


def made(key: str = "42", **changes: Any) -> ProcessState:
    """Store an instance."""
    time_outs = json.dumps({"overdue": {"id": str(NUMBER), "at": timezone.now().isoformat()}})
    values = {"state": '{"required_on":"2018-05-06"}', "time_outs": time_outs}
    return rows.process(key=key, **values | changes)


def test_an_instance_is_shown_with_its_state_and_time_outs(admin_client: Client) -> None:
    """The page says what it remembers and waits for."""
    found = page(admin_client, made())
    assert all(text in found for text in ("2018-05-06", "overdue", str(NUMBER), "running"))


@pytest.mark.parametrize("field", ["state", "time_outs", "early", "key", "process"])
def test_hostile_text_is_only_text(admin_client: Client, field: str) -> None:
    """Nothing of a row becomes markup, and nothing in it breaks a page."""
    row = made(**{field: SCRIPT})
    assert SCRIPT not in list_page(admin_client, "processstate") + page(admin_client, row)
    assert escape(SCRIPT) in page(admin_client, row)


def test_instances_are_filtered_by_how_far_they_are(admin_client: Client) -> None:
    """Running, finished, and those that wait for their start."""
    now = timezone.now() + timedelta(0)
    made("runs")
    made("over", finished_at=now)
    made("soon", started_at=None)
    for standing, key in (("running", "runs"), ("finished", "over"), ("early", "soon")):
        found = list_page(admin_client, "processstate", standing=standing)
        assert [each for each in ("runs", "over", "soon") if f">{each}<" in found] == [key]


def test_an_instance_is_found_by_its_key(admin_client: Client) -> None:
    """The whole key, not a part of it."""
    made("42")
    made("421")
    found = list_page(admin_client, "processstate", q="42")
    assert (">42<" in found, ">421<" in found) == (True, False)


def test_nobody_may_change_an_instance(admin_client: Client) -> None:
    """The page is read-only."""
    row = made()
    assert admin_client.post(path(row), {"state": "{}"}).status_code == 403
    assert admin_client.get(address("processstate", "delete", row.pk)).status_code == 403


def step(key: str = "42", **changes: Any) -> Delivery:
    """Store a delivery to the process, which is dead."""
    message = rows.inbox_message(context="ordering", type="ordering.Shipped", key=key)
    values = {"consumer": "ordering.watch", "state": "dead", "holds": True, "attempts": 1}
    return rows.delivery(message, **values | changes)


def keys(found: str) -> set[str]:
    """Return the keys that a list shows."""
    return set(re.findall(r'field-key_text">([^<]*)<', found))


def test_what_is_stuck_is_found(admin_client: Client) -> None:
    """An instance with a delivery that is dead or backs off, among those that go on."""
    for key in ("dead", "again", "well", "solved", "other"):
        made(key)
    step("dead")
    step("again", state="ready", due_at=timezone.now() + timedelta(hours=1))
    step("solved", state="done", holds=False)
    step("other", consumer="ordering.handlers.summarise")
    assert keys(list_page(admin_client, "processstate", standing="stuck")) == {"dead", "again"}


def test_an_instance_that_is_stuck_leads_to_the_delivery(admin_client: Client) -> None:
    """From the list and from its page, to where it can be retried; and back."""
    row, failed = made(), step()
    step("43")
    for found in (list_page(admin_client, "processstate"), page(admin_client, row)):
        assert 'oi-dead">dead<' in found
        assert path(failed) in found
    assert path(row) in page(admin_client, failed)


def test_the_first_failure_is_the_one_that_is_shown(admin_client: Client) -> None:
    """What comes after it may only be waiting for it."""
    row, first = made(), step(state="ready", due_at=timezone.now())
    second = step(holds=False)
    found = page(admin_client, row)
    assert path(second) not in found
    assert all(each in found for each in (path(first), "backing off"))


def test_a_list_costs_the_same_whatever_is_stuck(admin_client: Client) -> None:
    """One query more than without, for the whole page."""

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            list_page(admin_client, "processstate")
        return len(queries)

    made("1")
    step("1")
    before = cost()
    for key in ("2", "3", "4"):
        made(key)
        step(key)
    assert cost() == before


def test_a_time_out_leads_to_its_process(admin_client: Client) -> None:
    """The scheduled message has a link to the instance; other messages have none."""
    row = made()
    kind = {"context": "ordering", "key": "42", "due_at": timezone.now() + timedelta(days=1)}
    time_out = rows.outbox_message(type="ordering.watch.TimedOut", **kind)
    other = rows.outbox_message(type="ordering.Shipped", **kind)
    assert path(row) in page(admin_client, time_out)
    assert path(row) not in page(admin_client, other)
    OutboxMessage.objects.update(key="no such instance")
    assert path(row) not in page(admin_client, time_out)


def test_a_time_out_that_nobody_moves_is_late(admin_client: Client) -> None:
    """Its time has passed more than a moment ago."""
    now = timezone.now()
    for key, at in (("late", now - timedelta(hours=1)), ("soon", now - timedelta(seconds=1))):
        made(key, time_outs=json.dumps({"overdue": {"id": str(NUMBER), "at": at.isoformat()}}))
    shown = list_page(admin_client, "processstate")
    found = re.findall(r'field-key_text">(\w+)<.*?field-time_out_names">(.*?)</td>', shown)
    assert {key: ">late<" in each for key, each in found} == {"late": True, "soon": False}


def test_the_list_has_no_ids_and_the_page_has(admin_client: Client) -> None:
    """Ids with their links are on the page of one instance."""
    row = made()
    assert str(NUMBER) not in list_page(admin_client, "processstate")
    assert f"/outboxmessage/?q={NUMBER}" in page(admin_client, row)


def test_what_came_early_leads_to_its_messages(admin_client: Client) -> None:
    """A section of its own, which is not there when nothing came."""
    kept = [{"id": str(NUMBER), "type": "ordering.Shipped", "data": "{}"}]
    early = page(admin_client, made("early", started_at=None, early=json.dumps(kept)))
    assert f"/delivery/?q={NUMBER}" in early
    assert "Received before the start" in early
    assert "Received before the start" not in page(admin_client, made("usual"))


def test_instances_are_filtered_by_process(admin_client: Client) -> None:
    """The filter offers the processes of the project."""
    made("1")
    made("2", process="ordering.gone")
    found = list_page(admin_client, "processstate", process__exact="ordering.watch")
    assert keys(found) == {"1"}
