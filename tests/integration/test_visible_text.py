"""Text from outside, in everything that a command prints and a page shows."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django.utils.http import urlencode

import outbox_inbox
from outbox_inbox.admin.base import QueueAdmin
from outbox_inbox.management.commands import run_contexts
from outbox_inbox.models import Checkpoint, Interest, InterestKind
from outbox_inbox.signals.escaping import has_invisible
from outbox_inbox.transports import ReceivedMessage
from tests.support import rows
from tests.support.commands import Result
from tests.support.pages import act, address, content, path

HOSTILE = "k\x1b]0;owned\x07\x1b[2J\n\rqueue_stats: all is well\u202e\u200b\x9b31m"
SHOWN = r"k\x1b]0;owned\x07\x1b[2J\n\rqueue_stats: all is well\u202e\u200b\x9b31m"
PAYLOAD = json.dumps({"order": HOSTILE}, ensure_ascii=False)
COMMANDS = Path(outbox_inbox.__file__).parent / "management/commands"
PAGES = {
    model._meta.model_name: page
    for model, page in admin.site._registry.items()
    if isinstance(page, QueueAdmin)
}


@pytest.fixture
def hostile(committed):
    """A row of each table, with hostile text wherever a message or an error brings some."""
    now = timezone.now()
    message = {
        "key": HOSTILE,
        "type": HOSTILE,
        "payload": PAYLOAD,
        "headers": json.dumps({HOSTILE: HOSTILE}),
    }
    failed = {"state": "dead", "attempts": 1, "error": HOSTILE, "holds": True, "finished_at": now}
    attributes = dict.fromkeys(("id", "source", "type", HOSTILE), HOSTILE)
    came = ReceivedMessage(receipt=None, attributes=attributes, data=HOSTILE.encode())
    received = rows.inbox_message(source=HOSTILE, **message)
    delivery = rows.delivery(received, **failed)
    at_its_start = rows.inbox_message(context="ordering", key=HOSTILE, type=HOSTILE)
    rows.delivery(at_its_start, consumer="ordering.watch", **failed)
    read_model = {"context": "ordering", "subscription": "country_board", "changed_at": now}
    return {
        "outboxmessage": rows.outbox_message(**message, **failed),
        "inboxmessage": received,
        "delivery": delivery,
        "operatoraction": rows.operator_action(
            delivery, operator=HOSTILE, error=HOSTILE, reason=HOSTILE
        ),
        "deliveryattempt": rows.attempt(delivery, error=HOSTILE, traceback=f"a\n\tb {HOSTILE}"),
        "storedevent": rows.stored_event(stream=HOSTILE, **message),
        "snapshot": rows.snapshot(stream=HOSTILE, payload=PAYLOAD),
        "partition": rows.partition(retry_at=now + timedelta(hours=1), error=HOSTILE),
        "processstate": rows.process(
            key=HOSTILE, state=PAYLOAD, early=json.dumps([{"type": HOSTILE, "id": "?"}]), time_outs=HOSTILE
        ),
        "quarantinedmessage": rows.quarantined(came, error=HOSTILE, note=HOSTILE, state="discarded"),
        "checkpoint": Checkpoint.objects.update_or_create(
            **{**read_model, "defaults": {"done": "1:1:", "error": HOSTILE, "retry_at": now + timedelta(hours=1)}}
        )[0],
        "interest": Interest.objects.create(
            context="shop", kind=InterestKind.CONSUMER, name=HOSTILE, type=HOSTILE, renamed_to=HOSTILE, schema_version=1, hash=0, confirmed_at=now
        ),
    }  # fmt: skip


@pytest.fixture
def operator(committed):
    """A browser in which an administrator is logged in."""
    user = User.objects.create_superuser("visible")
    client = Client()
    client.force_login(user)
    yield client
    LogEntry.objects.all().delete()
    user.delete()


# Commands

SHOP = ("--context", "shop")
CALLS = [
    ("retry_messages", *SHOP, "--key", HOSTILE),
    ("retry_messages", *SHOP, "--type", HOSTILE),
    ("retry_messages", *SHOP, "--key", HOSTILE + "x"),
    ("retry_messages", *SHOP, "--type", HOSTILE + "x"),
    ("retry_messages", *SHOP, "--all", "--consumer", HOSTILE),
    ("release_messages", *SHOP, "--source", HOSTILE + "x"),
    ("release_messages", *SHOP, "--type", HOSTILE + "x"),
    ("retry_messages", *SHOP, "--id", HOSTILE),
    ("retry_messages", "--context", HOSTILE, "--all"),
    ("discard_messages", *SHOP, "--key", HOSTILE, "--reason", HOSTILE),
    ("discard_messages", *SHOP, "--source", HOSTILE, "--queue", "quarantine", "--reason", HOSTILE),
    ("release_messages", *SHOP, "--id", HOSTILE),
    ("release_messages", "--context", HOSTILE, "--all"),
    ("drain_outbox",),
    ("drain_outbox", *SHOP),
    ("drain_inbox", "--context", HOSTILE),
    ("drain_inbox", "--verbosity", "2"),
    ("receive_messages",),
    ("update_projections", "--context", "ordering"),
    ("queue_stats",),
    ("queue_stats", "--format", "json"),
    ("queue_stats", "--fail-over", "dead=0", "--fail-over", "parked=0"),
    ("read_stream", HOSTILE),
    ("read_stream", HOSTILE, "--format", "json"),
    ("read_stream", HOSTILE + "x"),
    ("read_stream", HOSTILE, "--context", HOSTILE),
    ("rename_consumer", *SHOP, HOSTILE, HOSTILE + "x"),
    ("retire_consumer", *SHOP, HOSTILE),
    ("retire_consumer", *SHOP, "shop.handlers.note", "--type", HOSTILE),
    ("rebuild_projection", HOSTILE),
    ("rebuild_projection", "country_board", "--context", HOSTILE),
    ("rebase_checkpoints",),
    ("repartition", "--dry-run"),
    ("prune_messages", "--dry-run"),
    ("show_contexts",),
    ("show_contexts", "--format", "json"),
    ("transfer_context", HOSTILE, "--to", "other"),
    ("transfer_context", "shop", "--to", HOSTILE),
    ("prepare_context_database", HOSTILE),
    ("run_contexts", *SHOP),
]


def test_the_calls_below_are_of_every_command():
    """A new command is tested as well."""
    every = {file.stem for file in COMMANDS.glob("*.py")} - {"__init__"}
    assert {name for name, *_ in CALLS} == every


@pytest.fixture
def ends_at_once(monkeypatch):
    """A run_contexts that only says what is wrong with its transports."""
    monkeypatch.setattr(run_contexts, "run", lambda *_, **__: None)
    monkeypatch.setattr(run_contexts, "transport_problems", lambda: [("default", HOSTILE)])


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0])
@pytest.mark.usefixtures("ends_at_once", "hostile")
def test_no_command_prints_text_from_outside_raw(call):
    """Neither in its lines, nor in its JSON, nor in its error."""
    result = Result(*call)
    printed = result.out + result.err + result.error
    assert not has_invisible(printed)
    assert not re.search(r"^\s*queue_stats: all is well", printed, re.MULTILINE)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "call", [("queue_stats",), ("read_stream", HOSTILE)], ids=["keys", "events"]
)
def test_what_is_printed_shows_the_text_with_escapes(call):
    """So that an operator can see what it is."""
    assert SHOWN in Result(*call).out


def test_json_has_the_exact_text(hostile):
    """A program gets the key as it is."""
    found = json.loads(Result("queue_stats", "--format", "json").out)
    assert HOSTILE in [each["key"] for each in found["contexts"]["shop"]["inbox"]["parked"]]
    (event,) = json.loads(Result("read_stream", HOSTILE, "--format", "json").out)["events"]
    assert (event["key"], event["type"]) == (HOSTILE, HOSTILE)


@pytest.mark.usefixtures("committed")
def test_a_line_is_bounded():
    """A reason of a megabyte is not a line of a megabyte."""
    rows.partition(paused=True, error="x" * 1_000_000)
    assert len(Result("queue_stats").out) < 5_000


# Pages


def shown(client, place):
    """Return a page, in which nothing is raw."""
    # A value of a form, which is sent back, has to stay as it is.
    found = re.sub(r'value="[^"]*"', "", content(client, place))
    assert not has_invisible(found)
    assert "\nqueue_stats: all is well" not in found
    return found


@pytest.mark.parametrize("model", PAGES)
def test_no_page_shows_text_from_outside_raw(operator, hostile, model):
    """Neither the list nor the page of a row, nor its history."""
    row = hostile[model]
    for place in (address(model), path(row)):
        assert SHOWN[:12] in shown(operator, place)
    shown(operator, address(model, "history", row.pk))


@pytest.mark.parametrize("model", ["outboxmessage", "delivery"])
def test_no_question_shows_text_from_outside_raw(operator, hostile, model):
    """The page that asks for the reason of a discard, and the history that has it."""
    asked = act(operator, "discard", hostile[model]).content.decode()
    assert not has_invisible(asked)
    assert "queue_stats: all is well" in asked
    act(operator, "discard", hostile[model], reason=HOSTILE, total=1)
    assert LogEntry.objects.count() == 1
    shown(operator, address(model, "history", hostile[model].pk))


@pytest.mark.parametrize("column", ["type__exact", "context__exact"])
def test_no_filter_shows_text_from_outside_raw(operator, hostile, column):
    """The value of an address is one of the choices of its filter."""
    place = address("outboxmessage")
    assert SHOWN[:12] in shown(operator, f"{place}?{urlencode({column: HOSTILE})}")
