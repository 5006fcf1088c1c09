"""The commands by which operators watch queues, and retry, discard and release messages."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from outbox_inbox import PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.management import thresholds
from outbox_inbox.models import Delivery, InboxMessage, QuarantinedMessage, QuarantineReason, Queue
from outbox_inbox.operations import pause
from outbox_inbox.testing import advance, drain
from outbox_inbox.transports.quarantine import RefusedMessage, quarantine_messages
from tests.shop.events import Noted
from tests.support.arriving import arriving
from tests.support.commands import Result
from tests.support.movers import dead, failing, put, steps
from tests.support.script import playing

pytestmark = pytest.mark.django_db


@pytest.fixture
def parked():
    """A dead head in the shop's inbox, with a follower that waits."""
    first, _ = put(*steps(Noted, 2))
    with playing(note=failing(1, error=PermanentError)):
        drain(raise_errors=False)
    return first


@pytest.fixture
def quarantined():
    """Messages in the depot's quarantine: 1 and 2 of a version it does not know, 3 not JSON."""
    unknown, damaged = QuarantineReason.UNKNOWN_VERSION, QuarantineReason.NOT_JSON
    refused = [
        *(RefusedMessage(arriving(n, type="shop.sold.v2"), unknown, "no") for n in (1, 2)),
        RefusedMessage(arriving(3, data=b"order=a"), damaged, "no"),
    ]
    quarantine_messages(get_context("depot"), refused)


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
    InboxMessage.objects.update(received_at=timezone.now() - timedelta(hours=1))
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


@pytest.fixture
def up_to_one(monkeypatch):
    """Let the statistics count one of each."""
    monkeypatch.setattr(thresholds, "MOST_COUNTED", 1)


def test_queue_stats_says_where_it_has_stopped_counting(up_to_one, quarantined):
    """In the table, in the lines below it, and in the document by names that scripts can look for."""
    dead(*[Noted(order=each, number=1) for each in ("a", "b")])
    lines = Result("queue_stats").out.splitlines()
    document = json.loads(Result("queue_stats", "--format=json").out)
    (shop,) = [line.split() for line in lines if line.startswith("shop   ")][1:]
    assert shop[2:7] == ["0", "0", "0", ">1", "0"]
    named = "a (shop.handlers.note), b (shop.handlers.note)"
    assert f"shop inbox: more than 1 parked key: {named}, …" in lines
    assert any(line.startswith("depot inbox: more than 1 quarantined: ") for line in lines)
    found = document["contexts"]["shop"]["inbox"]
    assert (found["dead"], found["minimums"]) == (1, ["unfinished", "dead", "parked_keys"])
    assert document["contexts"]["shop"]["outbox"]["minimums"] == []
    assert document["minimums"] == ["unfinished", "dead", "quarantined"]


@pytest.mark.parametrize(("limit", "code"), [("depth=2", 3), ("depth=3", 0), ("dead=2", 3)])
def test_a_limit_above_what_is_counted_is_checked_all_the_same(up_to_one, limit, code):
    """The statistics count up to the limit then."""
    dead(*[Noted(order=each, number=1) for each in ("a", "b", "c")])
    result = Result("queue_stats", "--fail-over", limit)
    assert result.code == code
    assert ("more than 2" in result.error) == (code == 3)


def test_queue_stats_tells_what_is_quarantined(quarantined):
    """Below the table, by reason."""
    lines = Result("queue_stats").out.splitlines()
    assert "depot inbox: 3 quarantined: 1 not JSON, 2 unknown version" in lines
    assert not [line for line in lines if "shop" in line and "quarantined" in line]


def test_queue_stats_counts_what_is_quarantined_in_its_document(quarantined):
    """For all contexts, and for each with the reasons."""
    document = json.loads(Result("queue_stats", "--format", "json").out)
    inbox = document["contexts"]["depot"]["inbox"]
    assert (document["quarantined"], inbox["quarantined"]) == (3, 3)
    assert inbox["quarantined_reasons"] == {"not_json": 1, "unknown_version": 2}
    assert document["contexts"]["shop"]["inbox"]["quarantined"] == 0


@pytest.mark.parametrize(("limit", "code"), [("quarantined=2", 3), ("quarantined=3", 0)])
def test_queue_stats_watches_what_is_quarantined(quarantined, limit, code):
    """More than the limit is too much."""
    result = Result("queue_stats", "--fail-over", limit)
    assert result.code == code
    assert result.error == ("depot inbox: 3 quarantined (limit 2)" if code else "")


# Retry and discard


@pytest.mark.parametrize(
    "selection",
    ["--all", "--type=shop.Noted", "--key=a", "--all --consumer=shop.handlers.note"],
)
def test_retry_messages_takes_what_is_selected(parked, selection):
    """All, or by type, by key, by consumer: the dead head, not the follower."""
    result = Result("retry_messages", "--context", "shop", *selection.split())
    assert (result.code, result.out) == (0, "Retried 0 outbox messages and 1 delivery.\n")


def test_retry_messages_by_id(parked):
    """By the id of the message."""
    result = Result("retry_messages", "--context", "shop", "--id", str(parked.id))
    assert result.out == "Retried 0 outbox messages and 1 delivery.\n"


@pytest.mark.parametrize("written", [str.upper, "{{{}}}".format, "urn:uuid:{}".format])
def test_an_id_is_written_as_the_queues_write_it(parked, written):
    """Written like this, it may be the id of another message."""
    result = Result("retry_messages", "--context", "shop", "--id", written(str(parked.id)))
    assert (result.code, f"write '{parked.id}'" in result.error) == (2, True)


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
    assert Delivery.objects.get(state="discarded").error.startswith("a test\nthe error before: ")


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


def quarantine_states():
    """Return the states of the quarantined messages, in order."""
    return list(QuarantinedMessage.objects.order_by("id").values_list("state", flat=True))


def test_release_messages_counts_what_it_released(quarantined, known):
    """After the deployment both can be read."""
    result = Result("release_messages", "--context=depot", "--reason=unknown_version")
    assert (result.code, result.out) == (0, "Released 2 messages.\n")
    assert quarantine_states() == ["released", "released", "quarantined"]


def test_release_messages_says_what_stays(quarantined, known):
    """Exit code 3, and the reasons of now: version 1 has lost its upcaster meanwhile."""
    result = Result("release_messages", "--context=depot", "--all")
    assert (result.code, result.out) == (3, "Released 2 messages.\n")
    assert result.error == "1 stays in quarantine: 1 unknown version"


def test_a_dry_run_of_release_messages_changes_nothing(quarantined, known):
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


def test_release_messages_says_that_there_is_nothing_to_release(quarantined):
    """An empty selection is not an error, but is reported."""
    result = Result("release_messages", "--context=depot", "--reason=conflict")
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


def test_discard_messages_sets_quarantined_messages_aside_for_good(quarantined):
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
def test_discard_messages_selects_quarantined_messages(quarantined, which, count):
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


def test_prune_messages_counts_what_was_kept_aside(quarantined, known):
    """Once it is released or discarded."""
    Result("release_messages", "--context=depot", "--all")
    result = Result("prune_messages", "--older-than", "0s")
    assert "2 messages from quarantine" in result.out
    assert quarantine_states() == ["quarantined"]
