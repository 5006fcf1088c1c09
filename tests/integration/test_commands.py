"""The commands: what they print, where, and with which exit code."""

import json
import os
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError
from django.db import OperationalError
from django.utils import timezone

from outbox_inbox import PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.management.arguments import duration
from outbox_inbox.management.base import ProblemFound, WrongUsage
from outbox_inbox.management.wording import age_text
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.operations import pause
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.testing import drain
from outbox_inbox.transports.local import LocalTransport
from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.shop.events import Checked, Noted
from tests.support.commands import Result
from tests.support.movers import failing, put, steps
from tests.support.script import playing

pytestmark = pytest.mark.django_db


# Contexts and errors


@pytest.mark.parametrize("command", ["drain_outbox", "queue_stats", "run_contexts", "repartition"])
def test_an_unknown_context_is_wrong_usage(command):
    """The error says what was probably meant, and the exit code is 2."""
    result = Result(command, "--context", "shpo")
    assert (result.code, result.out) == (2, "")
    assert "did you mean 'shop'" in result.error


def test_wrong_settings_are_an_error_in_one_line(settings):
    """The error names the way out, without a traceback, and the exit code is 1."""
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 0}}
    result = Result("drain_inbox")
    assert result.code == 1
    assert "\n" not in result.error
    assert 'OUTBOX_INBOX["PARTITIONS"]["inbox"]' in result.error


def test_missing_tables_are_an_error_in_one_line(monkeypatch):
    """The error names the way out."""

    def look(*arguments):
        raise OperationalError("no such table: outbox_inbox_partition")

    monkeypatch.setattr("outbox_inbox.queues.statements.partition_statuses", look)
    result = Result("drain_outbox")
    assert result.code == 1
    assert result.error == (
        "the database refused (OperationalError): no such table: outbox_inbox_partition; "
        "has manage.py migrate been run?"
    )


# Drains


def test_drain_outbox_sums_up_in_one_line():
    """Standard output has what was sent, and nothing else."""
    put(*steps(Noted, 2))
    result = Result("drain_outbox")
    assert (result.code, result.out, result.err) == (0, "Sent 2 messages.\n", "")


def test_drain_inbox_sums_up_in_one_line():
    """Each of two consumers handled the message."""
    put(*steps(Noted, 1))
    relay_outbox(get_context("shop"))
    result = Result("drain_inbox", "--context", "shop")
    assert (result.code, result.out) == (0, "Handled 2 deliveries.\n")


def test_an_empty_queue_is_drained_without_error():
    """Nothing to do is a way of being done."""
    assert Result("drain_outbox").out == "Sent 0 messages.\n"


def test_a_drain_keeps_to_its_limit():
    """--limit leaves the other messages, and reports them."""
    put(*steps(Noted, 3))
    result = Result("drain_outbox", "--limit", "2")
    assert (result.code, result.out) == (0, "Sent 2 messages; 1 left in shop.\n")


def test_a_drain_tells_what_went_wrong_and_exits_0():
    """The queue was worked through: dead letters are what queue_stats --fail-over looks for."""
    put(*steps(Noted, 2))
    relay_outbox(get_context("shop"))
    with playing(note=failing(1, error=PermanentError)):
        result = Result("drain_inbox")
    assert result.code == 0
    assert result.out == "Handled 2 deliveries; 1 dead; 1 blocked behind them.\n"


def test_a_drain_does_not_wait_for_a_paused_partition():
    """It is reported and left."""
    put(*steps(Noted, 1))
    pause(get_context("shop"), Queue.OUTBOX)
    result = Result("drain_outbox")
    assert result.code == 0
    assert result.out == "Sent 0 messages; 1 left in shop (partition 0 is paused).\n"


def test_a_drain_tells_that_it_waits_for_another_process():
    """After --wait the partition is left to the other one, and the exit code is 0."""
    put(*steps(Noted, 1))
    pause(get_context("shop"), Queue.OUTBOX)
    Partition.objects.filter(context="shop", queue="outbox").update(
        paused=False, run=uuid4(), last_run_at=timezone.now() + timedelta(seconds=1)
    )
    result = Result("drain_outbox", "--wait", "0.01")
    assert result.code == 0
    assert result.err == "waiting for another process: 1 partition in use\n"
    assert result.out == "Sent 0 messages; 1 partition in use by another process; 1 left in shop.\n"


def test_an_outage_of_the_transport_is_an_error(monkeypatch):
    """Not all could be done: the exit code is 1, and the error has the reason."""

    def publish(self, source, messages):
        raise TransportUnavailable("no route")

    monkeypatch.setattr(LocalTransport, "publish", publish)
    put(Checked(order="a", number=1))
    drain(raise_errors=False)
    result = Result("drain_outbox")
    assert result.code == 1
    assert "left in shop (partition 0 is backing off)" in result.out
    assert "no route" in result.error


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_a_limit_is_a_number_from_1(limit):
    """Nonsense is wrong usage."""
    assert "--limit" in Result("drain_outbox", f"--limit={limit}").error


def test_verbosity_0_says_nothing():
    """A cron job stays silent."""
    put(*steps(Noted, 1))
    assert Result("drain_outbox", "--verbosity", "0").out == ""


def test_receive_messages_takes_messages_from_the_transport(settings):
    """What was published through memory:// gets into the subscriber's inbox."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://"}}
    put(Checked(order="a", number=1))
    Result("drain_outbox"), Result("drain_inbox"), Result("drain_outbox")
    assert Result("receive_messages", "--context", "depot").out == "Received 1 message.\n"
    assert Delivery.objects.filter(context="depot").count() == 2


def test_a_drain_without_a_terminal_prints_plain_lines(monkeypatch):
    """Progress goes to standard error, line by line."""
    monkeypatch.setattr("outbox_inbox.management.progress.LINE_INTERVAL", 0)
    put(*steps(Noted, 2))
    result = Result("drain_outbox")
    assert result.err.startswith("drain_outbox: 2 of 2 (")
    assert result.err.count("\n") == 1


def test_a_drain_on_a_terminal_draws_a_bar(processes):  # noqa: F811
    """Progress goes to standard error, without colour if so wished; the summary to standard output."""
    processes.succeed("-m", "tests.acceptance.steps", "2", "2")
    ours, theirs = os.openpty()
    found = subprocess.run(
        [sys.executable, "manage.py", "drain_outbox", "--no-color"],
        env=os.environ | {"DATABASE_URL": processes.store.url, "TERM": "xterm", "COLUMNS": "99",
                          "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings"},
        stdout=subprocess.PIPE, stderr=theirs, text=True, check=True,
    )  # fmt: skip
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert found.stdout.startswith("Sent 16 messages")
    assert "drain_outbox" in drawn
    assert "16/16" in drawn
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", drawn)


# Prune and repartition


def test_prune_messages_counts_what_it_removed():
    """Outbox messages, deliveries and payloads go; the id is remembered."""
    put(*steps(Noted, 1))
    drain()
    result = Result("prune_messages", "--older-than", "0s")
    assert result.out == "Removed 1 outbox message, 2 deliveries, 1 payload, 0 inbox messages.\n"


def test_a_dry_run_of_prune_messages_removes_nothing():
    """It says what it would do."""
    put(*steps(Noted, 1))
    drain()
    result = Result("prune_messages", "--older-than", "0s", "--dry-run")
    assert (
        result.out == "Would remove 1 outbox message, 2 deliveries, 1 payload, 0 inbox messages.\n"
    )
    assert OutboxMessage.objects.exists()


@pytest.mark.parametrize("age", ["7", "d", "7 days", "-1d", "1y"])
def test_an_age_that_is_none_is_refused(age):
    """The error shows what is expected."""
    assert (
        "expected a number with its unit" in Result("prune_messages", f"--older-than={age}").error
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("1.5h", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
        ("1d12h", timedelta(hours=36)),
    ],
)
def test_a_duration_has_units(text, expected):
    """As people write them."""
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["36501d", "5215w", "9" * 400 + "s"])
def test_a_duration_is_at_most_a_century(text):
    """A longer one leads out of the calendar, where the command would end with a traceback."""
    with pytest.raises(ArgumentTypeError, match="the longest is 36500d"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.41, "0.4 s"), (75, "75 s"), (400, "7 min"), (9000, "2.5 h"), (9e5, "10.4 d")],
)
def test_an_age_is_shown_in_a_fitting_unit(seconds, expected):
    """As people read them."""
    assert age_text(seconds) == expected


def test_repartition_tells_what_became_of_each_queue(settings):
    """Partitions before and after, and how many messages moved."""
    put(*steps(Noted, 1))
    drain()
    settings.OUTBOX_INBOX = {"PARTITIONS": {"outbox": 2, "inbox": 8}}
    result = Result("repartition", "--context", "shop")
    assert result.out == (
        "shop outbox: 1 -> 2 partitions, 0 moved\nshop inbox: 8 -> 8 partitions, 0 moved\n"
    )


# The context map


def test_show_contexts_lists_contexts_and_arrows():
    """Who publishes what, who consumes it, and where it goes."""
    lines = Result("show_contexts").out.splitlines()
    assert (
        "shop (tests.shop): database default, transport default (LocalTransport), source outbox"
        in lines
    )
    assert "  publishes shop.sold v1" in lines
    assert "  subscribes to shop.sold v1" in lines
    assert "  outbound translator shop.outbound (batch) <- shop.Checked" in lines
    assert "    calls tests.shop.acl.announce" in lines
    assert "shop --> depot: shop.sold v1" in lines


def test_show_contexts_prints_one_json_document():
    """The same, for programs."""
    document = json.loads(Result("show_contexts", "--format", "json").out)
    (shop,) = [each for each in document["contexts"] if each["label"] == "shop"]
    assert shop["publishes"] == [{"type": "shop.sold", "version": 1}]
    assert {"from": "shop", "to": "depot", "type": "shop.sold", "version": 1} in document["arrows"]
    assert {
        "name": "shop.handlers.enlist", "kind": "handler", "events": ["shop.Listed"], "mode": "list",
        "functions": ["tests.shop.handlers.enlist"],
    } in shop["consumers"]  # fmt: skip


def test_the_location_of_a_transport_is_not_shown(settings):
    """A URL may hold a password."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://user:secret@host"}}
    assert "secret" not in Result("show_contexts", "--format", "json").out


def test_exit_codes_are_those_of_the_manual():
    """1 error, 2 wrong usage, 3 looked and something is wrong."""
    codes = [each("x").returncode for each in (CommandError, WrongUsage, ProblemFound)]
    assert codes == [1, 2, 3]
