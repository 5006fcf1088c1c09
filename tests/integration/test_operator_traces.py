"""What is left of a retry, a discard and a release: in the database, in the admin and in the log."""

import getpass
import logging
import socket

import pytest

from outbox_inbox.models import Delivery, OperatorAction, OutboxMessage
from outbox_inbox.operations import Selection, discard, prune, retry, traces
from outbox_inbox.testing import drain
from tests.shop.events import Noted
from tests.support import rows
from tests.support.commands import Result
from tests.support.movers import dead, fail_for_good, steps
from tests.support.pages import act, address, content, list_page, page, path
from tests.support.script import playing

pytestmark = pytest.mark.django_db

HERE = f"{getpass.getuser()}@{socket.gethostname()}"


def error(make):
    """Return the error of a dead row."""
    return "MessageRefused: no" if make is rows.dead_message else "ValueError: no"


DEAD = pytest.mark.parametrize("make", [rows.dead_message, rows.dead_delivery])


def actions(row):
    """Return what operators did to a row, oldest first."""
    columns = ("verb", "operator", "attempts", "error", "reason")
    return list(row.operator_actions.order_by("pk").values_list(*columns))


@DEAD
def test_a_retry_from_the_terminal_leaves_a_trace(make):
    """The user and the host of the process, the attempts until then, and the last error."""
    row = make()
    Result("retry_messages", "--context=shop", "--all")
    assert actions(row) == [("retried", HERE, row.attempts, error(make), "")]


@DEAD
def test_a_discard_from_the_terminal_leaves_a_trace(make):
    """The reason beside the error that the message had."""
    row = make()
    Result("discard_messages", "--context=shop", "--all", "--reason=sent by hand")
    assert actions(row) == [("discarded", HERE, row.attempts, error(make), "sent by hand")]


@DEAD
def test_a_discard_keeps_the_error(make):
    """Below the reason, where the database and the admin show it."""
    row = make()
    discard(Selection(context="shop"), "sent by hand")
    row.refresh_from_db()
    assert row.error == f"sent by hand\nthe error before: {error(make)}"


def test_a_discard_of_what_never_failed_has_only_the_reason():
    """There is no error that could be kept."""
    row = rows.outbox_message(state="pending")
    discard(Selection(context="shop"), "not wanted", unfinished=True)
    row.refresh_from_db()
    assert row.error == "not wanted"


@pytest.mark.parametrize(
    ("command", "verb", "reason"),
    [
        (
            ["discard_messages", "--queue=quarantine", "--reason=a mistake"],
            "discarded",
            "a mistake",
        ),
        (["release_messages"], "released", ""),
    ],
    ids=["discard", "release"],
)
def test_what_is_done_to_the_quarantine_from_the_terminal_leaves_a_trace(
    monkeypatch, command, verb, reason
):
    """A release as well as a discard, with the error for which the message was kept."""
    monkeypatch.setattr("outbox_inbox.operations.quarantine._admit", lambda *_: {})
    row = rows.quarantined()
    name, *more = command
    Result(name, "--context=depot", "--all", *more)
    assert actions(row) == [(verb, HERE, 0, "version 2 cannot be read here", reason)]


def test_what_stays_in_quarantine_has_no_trace_of_a_release():
    """Nothing was done to it."""
    rows.quarantined()
    Result("release_messages", "--context=depot", "--all")
    assert not OperatorAction.objects.exists()


@pytest.mark.parametrize("command", ["retry_messages", "discard_messages"])
def test_a_dry_run_leaves_no_trace(command):
    """Nothing was done."""
    rows.dead_message()
    more = ["--reason=x"] if command == "discard_messages" else []
    Result(command, "--context=shop", "--all", "--dry-run", *more)
    assert not OperatorAction.objects.exists()


def test_a_dry_run_of_a_release_leaves_no_trace(monkeypatch):
    """Though it is a release that is rolled back."""
    monkeypatch.setattr("outbox_inbox.operations.quarantine._admit", lambda *_: {})
    rows.quarantined()
    Result("release_messages", "--context=depot", "--all", "--dry-run")
    assert not OperatorAction.objects.exists()


@DEAD
def test_the_admin_leaves_the_same_trace_with_its_user(admin_client, make):
    """So that one list has what was done in both places."""
    row = make()
    act(admin_client, "retry", row)
    assert actions(row) == [("retried", "admin (admin)", row.attempts, error(make), "")]


def test_a_process_of_a_user_without_a_name_has_its_number(monkeypatch):
    """As in a container that runs under a bare user id."""

    def nameless():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert traces.process_owner() == f"user 4711@{socket.gethostname()}"


def test_the_log_says_who_did_what(caplog, django_capture_on_commit_callbacks):
    """One line for each step, after its commit."""
    rows.dead_message()
    rows.dead_message()
    with (
        caplog.at_level(logging.INFO, "outbox_inbox.operations"),
        django_capture_on_commit_callbacks(execute=True),
    ):
        discard(Selection(context="shop"), "sent\nby hand", by="olga")
    text = r"outbox of shop: 2 rows discarded by olga: sent\nby hand"
    assert [each.getMessage() for each in caplog.records] == [text]


# In the admin


@pytest.mark.parametrize(
    "make",
    [rows.dead_message, rows.dead_delivery, rows.quarantined],
    ids=lambda each: each.__name__,
)
def test_the_page_of_a_row_shows_what_was_done_from_a_terminal(admin_client, make):
    """On the page itself and in its history: who, what, and the error before."""
    row = make()
    rows.operator_action(row, operator="root@web1", error="ValueError: once", reason="a mistake")
    history = content(admin_client, address(str(row._meta.model_name), "history", row.pk))
    for shown in (page(admin_client, row), history):
        assert all(each in shown for each in ("root@web1", "ValueError: once", "a mistake"))
    assert "have a change history" not in history


def test_the_history_shows_what_was_done_in_the_admin_as_well(admin_client):
    """Django's own entries stay."""
    row = rows.dead_message()
    act(admin_client, "retry", row)
    history = content(admin_client, address("outboxmessage", "history", row.pk))
    assert "Retried." in history
    assert "admin (admin)" in history


def test_a_row_that_was_left_alone_has_no_such_section(admin_client):
    """Its page and history are as before."""
    row = rows.dead_message()
    assert "oi-actions" not in page(admin_client, row)
    history = content(admin_client, address("outboxmessage", "history", row.pk))
    assert "have a change history" in history


def test_the_list_of_actions_leads_to_their_rows(admin_client):
    """A message, a delivery or a quarantined message; one that is gone has no link."""
    found = [rows.dead_message(), rows.dead_delivery(), rows.quarantined()]
    for row in found:
        rows.operator_action(row)
    shown = list_page(admin_client, "operatoraction")
    assert all(path(row) in shown for row in found)
    OutboxMessage.objects.filter(pk=found[0].pk)._raw_delete("default")
    assert path(found[0]) not in list_page(admin_client, "operatoraction")


# Attempts


def test_a_message_that_dies_again_shows_all_its_attempts(admin_client):
    """A retry gives it new attempts, and the page goes on counting."""
    dead(*steps(Noted, 1))
    row = Delivery.objects.get(state="dead")
    retry(Selection(context="shop"))
    with playing(note=fail_for_good):
        drain(raise_errors=False)
    for shown in (page(admin_client, row), list_page(admin_client, "delivery")):
        assert "2 attempts, 1 since the last retry" in shown


@DEAD
def test_a_message_that_was_retried_shows_its_attempts_before(admin_client, make):
    """Also before the next attempt is made."""
    row = make(attempts=7)
    retry(Selection(context="shop"))
    for shown in (page(admin_client, row), list_page(admin_client, str(row._meta.model_name))):
        assert "7 attempts, 0 since the last retry" in shown


def test_a_message_that_was_never_retried_shows_its_attempts(admin_client):
    """As one number."""
    row = rows.dead_message(attempts=7)
    assert "since the last retry" not in page(admin_client, row)


# Pruning


def test_the_trace_goes_with_its_row():
    """A row that is pruned takes it along; the others keep theirs."""
    gone, stays = rows.dead_message(), rows.dead_message()
    discard(Selection(context="shop", id=gone.message_id), "not wanted")
    retry(Selection(context="shop", id=stays.message_id))
    OutboxMessage.objects.update(recorded_at="2000-01-01T00:00Z", finished_at="2000-01-01T00:00Z")
    prune()
    assert [each.outbox_message for each in OperatorAction.objects.all()] == [stays]
