"""The commands: what they print, where, and with which exit code."""

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from outbox_inbox import IntegrationEvent, PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.inbox.quarantine import RefusedMessage, quarantine_messages
from outbox_inbox.management.arguments import duration
from outbox_inbox.management.base import ProblemFound, WrongUsage
from outbox_inbox.management.wording import age_text
from outbox_inbox.models import (
    Delivery,
    OutboxMessage,
    Partition,
    QuarantinedMessage,
    QuarantineReason,
    Queue,
)
from outbox_inbox.operations import pause
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.testing import advance, drain
from outbox_inbox.transports.local import LocalTransport
from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.shop.events import Checked, Noted
from tests.support.arriving import arriving
from tests.support.movers import put
from tests.support.script import playing

pytestmark = pytest.mark.django_db


class Result:
    """What a command printed and how it ended."""

    def __init__(self, name, *arguments):
        stdout, stderr = StringIO(), StringIO()
        self.code, self.error = 0, ""
        try:
            call_command(name, *arguments, stdout=stdout, stderr=stderr, no_color=True)
        except CommandError as error:
            self.code, self.error = error.returncode, str(error)
        # How long it took is another matter on each machine.
        self.out = re.sub(r" in [\d.]+ s \([\d,]+/s\)", "", stdout.getvalue())
        self.err = stderr.getvalue()


def notes(*numbers, order="a"):
    """Return events of one key."""
    return [Noted(order=order, number=number) for number in numbers]


def fail_for_good(event):
    """Fail as if trying again could not help."""
    raise PermanentError("never")


@pytest.fixture
def parked():
    """A dead head in the shop's inbox, with a follower that waits."""
    (first, _) = put(*notes(1, 2))
    with playing(note=fail_for_good):
        drain(raise_errors=False)
    return first


# Contexts and errors


@pytest.mark.parametrize("command", ["drain_outbox", "queue_stats", "run_contexts", "repartition"])
def test_an_unknown_context_is_wrong_usage(command):
    """The error says what was probably meant, and the exit code is 2."""
    result = Result(command, "--context", "shpo")

    assert (result.code, result.out) == (2, "")
    assert "did you mean 'shop'" in result.error


def test_wrong_settings_are_an_error_in_one_line(settings):
    """The error names the way out, without a traceback, and the exit code is 1."""
    put(*notes(1))
    drain()
    settings.OUTBOX_INBOX = {"PARTITIONS": {"inbox": 3}}

    result = Result("drain_inbox")

    assert result.code == 1
    assert "run manage.py repartition" in result.error


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
    put(*notes(1, 2))

    result = Result("drain_outbox")

    assert (result.code, result.out, result.err) == (0, "Sent 2 messages.\n", "")


def test_drain_inbox_sums_up_in_one_line():
    """Each of two consumers handled the message."""
    put(*notes(1))
    relay_outbox(get_context("shop"))

    result = Result("drain_inbox", "--context", "shop")

    assert (result.code, result.out) == (0, "Handled 2 deliveries.\n")


def test_an_empty_queue_is_drained_without_error():
    """Nothing to do is a way of being done."""
    assert Result("drain_outbox").out == "Sent 0 messages.\n"


def test_a_drain_keeps_to_its_limit():
    """--limit leaves the other messages, and reports them."""
    put(*notes(1, 2, 3))

    result = Result("drain_outbox", "--limit", "2")

    assert (result.code, result.out) == (0, "Sent 2 messages; 1 left in shop.\n")


def test_a_drain_tells_what_went_wrong_and_exits_0():
    """The queue was worked through: dead letters are what queue_stats --fail-over looks for."""
    put(*notes(1, 2))
    relay_outbox(get_context("shop"))

    with playing(note=fail_for_good):
        result = Result("drain_inbox")

    assert result.code == 0
    assert result.out == "Handled 2 deliveries; 1 dead; 1 blocked behind them.\n"


def test_a_drain_does_not_wait_for_a_paused_partition():
    """It is reported and left."""
    put(*notes(1))
    pause(get_context("shop"), Queue.OUTBOX)

    result = Result("drain_outbox")

    assert result.code == 0
    assert result.out == "Sent 0 messages; 1 left in shop (partition 0 is paused).\n"


def test_a_drain_tells_that_it_waits_for_another_process():
    """After --wait the partition is left to the other one, and the exit code is 0."""
    put(*notes(1))
    pause(get_context("shop"), Queue.OUTBOX)
    Partition.objects.filter(context="shop", queue="outbox").update(
        paused=False, run=uuid4(), last_run_at=timezone.now() + timedelta(hours=1)
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
    put(*notes(1))

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
    put(*notes(1, 2))

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


# Statistics


def test_queue_stats_prints_a_table(parked):
    """A line a queue, then the parked keys."""
    lines = Result("queue_stats", "--context", "shop").out.splitlines()

    assert lines[0].split() == [
        "context", "queue", "ready", "backing", "off", "waiting", "dead", "scheduled", "oldest",
    ]  # fmt: skip
    assert lines[2].split()[:7] == ["shop", "inbox", "0", "0", "1", "1", "0"]
    assert lines[3] == "shop inbox: 1 parked key: a (shop.handlers.note)"


def test_queue_stats_shows_partitions_that_rest():
    """A paused partition is reported below the table."""
    pause(get_context("shop"), Queue.INBOX, [3])

    assert "shop inbox: partition 3 is paused\n" in Result("queue_stats").out


def test_queue_stats_prints_one_json_document(parked):
    """Nothing but the document is on standard output."""
    result = Result("queue_stats", "--format", "json", "--context", "shop")

    document = json.loads(result.out)
    inbox = document["contexts"]["shop"]["inbox"]
    assert (document["unfinished"], document["dead"], result.err) == (2, 1, "")
    assert (inbox["ready"], inbox["waiting"], inbox["dead"]) == (0, 1, 1)
    assert inbox["oldest_seconds"] >= 0
    assert inbox["parked"] == [{"key": "a", "consumer": "shop.handlers.note"}]


def test_what_is_scheduled_wakes_nobody_up():
    """It is shown, in the table and in the document, and no limit counts it before it is due."""
    put(Noted(order="a", number=1), at=timezone.now() + timedelta(hours=1))
    strict = ("--context=shop", "--fail-over=depth=0", "--fail-over=age=0s")

    table = Result("queue_stats", *strict)
    document = Result("queue_stats", *strict, "--format=json")
    outbox = table.out.splitlines()[1].split()
    found = json.loads(document.out)

    assert (table.code, document.code) == (0, 0)
    assert outbox == ["shop", "outbox", "0", "0", "0", "0", "1", "-"]
    assert (found["unfinished"], found["scheduled"]) == (0, 1)
    assert found["contexts"]["shop"]["outbox"]["scheduled"] == 1
    advance(timedelta(hours=2))
    assert Result("queue_stats", *strict).code == 3


@pytest.mark.parametrize("limit", ["1", "depth=1", "dead=0", "parked=0", "age=1m"])
def test_queue_stats_exits_3_when_a_limit_is_exceeded(parked, limit):
    """Each measure can be watched."""
    OutboxMessage.objects.update(recorded_at=timezone.now() - timedelta(hours=1))
    Delivery.objects.first().message.__class__.objects.update(
        received_at=timezone.now() - timedelta(hours=1)
    )

    result = Result("queue_stats", "--fail-over", limit)

    assert result.code == 3
    assert result.error.startswith("shop inbox: ")


@pytest.mark.parametrize("limit", ["2", "dead=1", "parked=1", "age=1h"])
def test_queue_stats_exits_0_at_the_limit(parked, limit):
    """Only more than the limit is too much."""
    assert Result("queue_stats", "--fail-over", limit).code == 0


def test_json_is_complete_also_when_a_limit_is_exceeded(parked):
    """The document has the exceeded limits."""
    result = Result("queue_stats", "--format=json", "--fail-over", "dead=0", "--fail-over", "99")

    assert result.code == 3
    assert json.loads(result.out)["exceeded"] == ["shop inbox: 1 dead (limit 0)"]


@pytest.mark.parametrize("limit", ["many", "deaf=1", "age=5", "dead=x"])
def test_a_limit_that_is_none_is_refused(limit):
    """The error shows what is expected."""
    assert "--fail-over" in Result("queue_stats", "--fail-over", limit).error


# Retry and discard


def test_retry_messages_counts_what_it_retried(parked):
    """The dead head, not the follower."""
    result = Result("retry_messages", "--context", "shop", "--all")

    assert (result.code, result.out) == (0, "Retried 0 outbox messages and 1 delivery.\n")


@pytest.mark.parametrize(
    "selection",
    [["--type", "shop.Noted"], ["--key", "a"], ["--all", "--consumer", "shop.handlers.note"]],
)
def test_retry_messages_takes_what_is_selected(parked, selection):
    """By type, by key, by consumer."""
    result = Result("retry_messages", "--context", "shop", *selection)

    assert result.out == "Retried 0 outbox messages and 1 delivery.\n"


def test_retry_messages_by_id(parked):
    """By the id of the message."""
    result = Result("retry_messages", "--context", "shop", "--id", str(parked.id))

    assert result.out == "Retried 0 outbox messages and 1 delivery.\n"


def test_a_dry_run_of_retry_messages_changes_nothing(parked):
    """It says what it would do."""
    result = Result("retry_messages", "--context", "shop", "--all", "--dry-run")

    assert result.out == "Would retry 0 outbox messages and 1 delivery.\n"
    assert Delivery.objects.filter(state="dead").exists()


def test_retry_messages_that_finds_nothing_says_so():
    """Nothing to do is not an error."""
    result = Result("retry_messages", "--context", "shop", "--all")

    assert (result.code, result.out) == (
        0, "Retried nothing: none of the selected messages is dead or backing off.\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["--all"],
        ["--context", "shop"],
        ["--context", "shop", "--all", "--key", "a"],
        ["--context", "shop", "--id", "7"],
        ["--context", "shop", "--all", "--queue", "outbox", "--consumer", "x"],
    ],
)
def test_retry_messages_must_know_what_to_retry(arguments):
    """Without a context, without or with two selections, or with nonsense, nothing is done."""
    assert Result("retry_messages", *arguments).code != 0


def test_discard_messages_sets_messages_aside_with_the_reason(parked):
    """The reason stands with the message."""
    result = Result("discard_messages", "--context", "shop", "--key", "a", "--reason", "a test")

    assert result.out == "Discarded 0 outbox messages and 1 delivery.\n"
    assert Delivery.objects.get(state="discarded").error == "a test"


def test_a_dry_run_of_discard_messages_changes_nothing(parked):
    """It says what it would do."""
    result = Result(
        "discard_messages", "--context=shop", "--all", "--unfinished", "--reason=x", "--dry-run"
    )

    assert result.out == "Would discard 0 outbox messages and 2 deliveries.\n"
    assert not Delivery.objects.filter(state="discarded").exists()


@pytest.mark.parametrize("reason", [[], ["--reason", "  "]])
def test_discard_messages_needs_a_reason(parked, reason):
    """None, or a blank one, is refused."""
    assert Result("discard_messages", "--context", "shop", "--all", *reason).code != 0
    assert Delivery.objects.filter(state="dead").exists()


# Quarantine


@pytest.fixture
def aside():
    """Messages in the depot's quarantine: 1 and 2 of a version it does not know, 3 not JSON."""
    messages = [
        arriving(1, type="shop.sold.v2"),
        arriving(2, type="shop.sold.v2"),
        arriving(3, data=b"order=a"),
    ]
    reasons = [
        QuarantineReason.UNKNOWN_VERSION,
        QuarantineReason.UNKNOWN_VERSION,
        QuarantineReason.NOT_JSON,
    ]
    kept = [RefusedMessage(each, why, "no") for each, why in zip(messages, reasons, strict=True)]
    quarantine_messages(get_context("depot"), kept)


@pytest.fixture
def known(monkeypatch, settings):
    """The depot as it is after the deployment: it knows version 2, which needs a country."""
    monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", (SoldAgain,))
    settings.OUTBOX_INBOX = {}


class SoldAgain(IntegrationEvent, name="shop.sold", version=2, key="order"):
    """The contract as it will be."""

    order: str
    number: int


def quarantine_states():
    """Return the states of the quarantined messages, in order."""
    return list(QuarantinedMessage.objects.order_by("id").values_list("state", flat=True))


def test_queue_stats_tells_what_is_quarantined(aside):
    """Below the table, by reason."""
    lines = Result("queue_stats").out.splitlines()
    assert "depot inbox: 3 quarantined: 1 not JSON, 2 unknown version" in lines
    assert not [line for line in lines if "shop" in line and "quarantined" in line]


def test_queue_stats_counts_what_is_quarantined_in_its_document(aside):
    """For all contexts, and for each with the reasons."""
    document = json.loads(Result("queue_stats", "--format", "json").out)
    inbox = document["contexts"]["depot"]["inbox"]
    assert (document["quarantined"], inbox["quarantined"]) == (3, 3)
    assert inbox["quarantined_reasons"] == {"not_json": 1, "unknown_version": 2}
    assert document["contexts"]["shop"]["inbox"]["quarantined"] == 0


@pytest.mark.parametrize(("limit", "code"), [("quarantined=2", 3), ("quarantined=3", 0)])
def test_queue_stats_watches_what_is_quarantined(aside, limit, code):
    """More than the limit is too much."""
    result = Result("queue_stats", "--fail-over", limit)
    assert result.code == code
    assert result.error == ("depot inbox: 3 quarantined (limit 2)" if code else "")


def test_release_messages_counts_what_it_released(aside, known):
    """After the deployment both can be read."""
    result = Result("release_messages", "--context=depot", "--reason=unknown_version")
    assert (result.code, result.out) == (0, "Released 2 messages.\n")
    assert quarantine_states() == ["released", "released", "quarantined"]


def test_release_messages_says_what_stays(aside, known):
    """Exit code 3, and the reasons of now: version 1 has lost its upcaster meanwhile."""
    result = Result("release_messages", "--context=depot", "--all")
    assert (result.code, result.out) == (3, "Released 2 messages.\n")
    assert result.error == "1 stays in quarantine: 1 unknown version"


def test_a_dry_run_of_release_messages_changes_nothing(aside, known):
    """It says what it would do."""
    result = Result("release_messages", "--context=depot", "--type=shop.sold.v2", "--dry-run")
    assert (result.code, result.out) == (0, "Would release 2 messages.\n")
    assert set(quarantine_states()) == {"quarantined"}


def test_release_messages_says_that_a_cut_message_has_to_be_sent_again(settings):
    """The part that was cut off is lost."""
    settings.OUTBOX_INBOX = {"MAX_PAYLOAD": 100}
    quarantine_messages(
        get_context("depot"),
        [RefusedMessage(arriving(1, data=b"a" * 101), QuarantineReason.TOO_LARGE, "too large")],
    )
    result = Result("release_messages", "--context=depot", "--source=/shop")
    assert (result.code, result.out) == (3, "Released 0 messages.\n")
    assert "cannot be released; ask its sender to send it again" in result.error


def test_release_messages_says_that_there_is_nothing_to_release(aside):
    """An empty selection is not an error, but is reported."""
    result = Result("release_messages", "--context=depot", "--id=unknown")
    assert result.code == 0
    assert result.out == "Released nothing: none of the selected messages is quarantined.\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--context=depot"],
        ["--all"],
        ["--context=depot", "--all", "--id=a"],
        ["--context=depot", "--reason=ugly"],
        ["--context=depott", "--all"],
    ],
)
def test_release_messages_refuses_a_wrong_usage(wrong):
    """Nothing is released by guessing what was meant."""
    found = subprocess.run(
        [sys.executable, "manage.py", "release_messages", *wrong],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")


def test_discard_messages_sets_quarantined_messages_aside_for_good(aside):
    """Only with --queue quarantine, and with the reason."""
    what = ["--context=depot", "--id", str(UUID(int=2)), "--reason", "sent by mistake"]
    assert Result("discard_messages", *what).out.startswith("Discarded nothing")
    result = Result("discard_messages", *what, "--queue=quarantine")
    assert (result.code, result.out) == (0, "Discarded 1 quarantined message.\n")
    assert quarantine_states() == ["quarantined", "discarded", "quarantined"]
    assert QuarantinedMessage.objects.get(state="discarded").note == "sent by mistake"


@pytest.mark.parametrize(
    ("which", "count"),
    [("--all", 3), ("--type=shop.sold.v2", 2), ("--source=shop", 3), ("--kept-for=not_json", 1)],
)
def test_discard_messages_selects_quarantined_messages(aside, which, count):
    """As release_messages does."""
    options = ["--context=depot", "--queue=quarantine", "--reason=x", "--dry-run", which]
    noun = "message" if count == 1 else "messages"
    assert (
        Result("discard_messages", *options).out == f"Would discard {count} quarantined {noun}.\n"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        ["--source=/shop"],
        ["--kept-for=not_json"],
        ["--id=not-a-uuid"],
        ["--queue=quarantine", "--key=a"],
        ["--queue=quarantine", "--all", "--consumer=shop.handlers.note"],
        ["--queue=quarantine", "--all", "--unfinished"],
    ],
)
def test_discard_messages_refuses_what_does_not_fit_the_queue(wrong):
    """Nothing is selected by half of what was asked for."""
    assert Result("discard_messages", "--context=depot", "--reason=x", *wrong).code == 2


def test_prune_messages_counts_what_was_kept_aside(aside, known):
    """Once it is released or discarded."""
    Result("release_messages", "--context=depot", "--all")
    result = Result("prune_messages", "--older-than", "0s")
    assert "2 messages from quarantine" in result.out
    assert quarantine_states() == ["quarantined"]


# Prune and repartition


def test_prune_messages_counts_what_it_removed():
    """Outbox messages and deliveries go; the id is remembered."""
    put(*notes(1))
    drain()

    result = Result("prune_messages", "--older-than", "0s")

    assert result.out == "Removed 1 outbox message, 2 deliveries, 0 inbox messages.\n"


def test_a_dry_run_of_prune_messages_removes_nothing():
    """It says what it would do."""
    put(*notes(1))
    drain()

    result = Result("prune_messages", "--older-than", "0s", "--dry-run")

    assert result.out == "Would remove 1 outbox message, 2 deliveries, 0 inbox messages.\n"
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


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "-"), (0.41, "0.4 s"), (75, "75 s"), (400, "7 min"), (9000, "2.5 h"), (9e5, "10.4 d")],
)
def test_an_age_is_shown_in_a_fitting_unit(seconds, expected):
    """As people read them."""
    assert age_text(seconds) == expected


def test_repartition_tells_what_became_of_each_queue(settings):
    """Partitions before and after, and how many messages moved."""
    put(*notes(1))
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
    assert "  outbound translator shop.acl.announce (batch) <- shop.Checked" in lines
    assert "shop --> depot: shop.sold v1" in lines


def test_show_contexts_prints_one_json_document():
    """The same, for programs."""
    document = json.loads(Result("show_contexts", "--format", "json").out)

    (shop,) = [each for each in document["contexts"] if each["label"] == "shop"]
    assert shop["publishes"] == [{"type": "shop.sold", "version": 1}]
    assert {"from": "shop", "to": "depot", "type": "shop.sold", "version": 1} in document["arrows"]
    assert {
        "name": "shop.handlers.enlist", "kind": "handler", "events": ["shop.Listed"], "mode": "list",
    } in shop["consumers"]  # fmt: skip


def test_the_location_of_a_transport_is_not_shown(settings):
    """A URL may hold a password."""
    settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": "memory://user:secret@host"}}

    assert "secret" not in Result("show_contexts", "--format", "json").out


def test_exit_codes_are_those_of_the_manual():
    """1 error, 2 wrong usage, 3 looked and something is wrong."""
    codes = [each("x").returncode for each in (CommandError, WrongUsage, ProblemFound)]

    assert codes == [1, 2, 3]
