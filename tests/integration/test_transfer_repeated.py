"""A transfer that is stopped, repeated, aborted or refused, and its command."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction

from outbox_inbox.conf import faults
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ContextMoved, NotAContext, TransferRefused, UnknownName
from outbox_inbox.models import InboxMessage, Partition, Queue, Transfer
from outbox_inbox.operations import pause, resume, transfer
from outbox_inbox.operations.transfer import sequences
from outbox_inbox.operations.transfer.sequences import last_id
from outbox_inbox.operations.transfer.tables import QUEUE_MODELS
from tests.depot.events import Wanted
from tests.depot.models import Pick
from tests.shop.events import Checked, Counted, Noted
from tests.shop.models import Entry
from tests.support.movers import Crash, crash, entries, put, run_all, steps, striking
from tests.support.transfers import deploy, everything, rows, unfinished_business

pytestmark = [pytest.mark.hand_over, pytest.mark.usefixtures("unguarded")]

DURING = sorted(faults.TRANSFER_POINTS - {"transfer.after_abort"})


@pytest.mark.parametrize("point", DURING)
def test_a_crash_at_any_step_is_made_good_by_repeating(settings: Any, point: str) -> None:
    """Killed there, with work going on in between, the same command comes to the same end."""
    unfinished_business()
    _crash_at(point)
    extra = 0
    with suppress(ContextMoved):
        put(*steps(Counted, 1, "late"))
        extra = 1
    before = everything("default")
    assert transfer.transfer("shop", "other").state == "open"
    assert everything("other") == before
    again = transfer.transfer("shop", "other")
    assert (again.state, again.copied, again.changed) == ("open", 0, 0)
    deploy(settings, "shop")
    run_all()
    assert entries("count", "c") == [1, 2]
    assert entries("count", "late") == [1] * extra
    assert entries("note") == [1]


@pytest.mark.parametrize("point", [None, *DURING])
def test_a_hand_over_that_is_not_open_can_be_taken_back(point: str | None) -> None:
    """After `abort` the old side works as before, and the new one is empty."""
    unfinished_business()
    pause(get_context("shop"), Queue.OUTBOX)
    before = everything("default")
    if point == "transfer.after_open":
        _crash_at(point)
        with pytest.raises(TransferRefused, match="lives on 'other' already"):
            transfer.abort_transfer("shop", "other")
        return
    if point is None:
        transfer.transfer("shop", "other", hold=True)
    else:
        _crash_at(point)
    assert transfer.abort_transfer("shop", "other")
    assert not transfer.abort_transfer("shop", "other")
    assert everything("default") == before
    assert not any(everything("other").values())
    paused = Partition.objects.filter(context="shop", paused=True)
    assert list(paused.values_list("queue", flat=True)) == ["outbox"]
    resume(get_context("shop"), Queue.OUTBOX)
    run_all()
    assert entries("count", "c") == [1, 2]
    assert transfer.transfer("shop", "other").state == "open"


def _crash_at(point: str) -> None:
    with pytest.raises(Crash), striking(point, crash):
        transfer.transfer("shop", "other")


def test_an_abort_is_brought_to_its_end_first() -> None:
    """A transfer that is half aborted cannot go on."""
    put(*steps(Noted, 1))
    transfer.transfer("shop", "other", hold=True)
    with pytest.raises(Crash), striking("transfer.after_abort", crash):
        transfer.abort_transfer("shop", "other")
    with pytest.raises(TransferRefused, match="--abort to the end"):
        transfer.transfer("shop", "other")
    put(*steps(Noted, [2]))
    assert transfer.abort_transfer("shop", "other")
    assert transfer.transfer("shop", "other").state == "open"


def test_a_row_that_somebody_changed_is_found_and_put_right() -> None:
    """`verify` sees a value that is not the same; the next call of the command copies it again."""
    unfinished_business()
    transfer.transfer("shop", "other", hold=True)
    entry = Entry.objects.using("other").earliest("id")
    rows_ = Transfer.objects.using("other")
    with transaction.atomic(using="other"):
        rows_.update(writing=True)
        Entry.objects.using("other").filter(pk=entry.pk).update(number=77)
        rows_.update(writing=False)
    assert transfer.verify_transfer("shop", "other").differences == 1
    out = StringIO()
    with pytest.raises(CommandError, match="1 difference between") as caught:
        call_command("transfer_context", "shop", to="other", verify=True, stdout=out)
    assert caught.value.returncode == 3
    assert transfer.transfer("shop", "other").changed == 1
    assert rows(Entry, "other") == rows(Entry, "default")


def test_there_and_back_again(settings: Any) -> None:
    """A context can go back to a database that it has left, once that is cleaned."""
    put(*steps(Noted, 2))
    run_all()
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    put(*steps(Noted, [3]))
    with pytest.raises(TransferRefused, match=r"has rows of 'shop'.*--clean"):
        transfer.transfer("shop", "default")
    assert transfer.clean_old_side("shop", "other", old="default") > 0
    assert not any(everything("default").values())
    transfer.transfer("shop", "default")
    with pytest.raises(ContextMoved):
        put(*steps(Noted, [4]))
    settings.OUTBOX_INBOX = {}
    put(*steps(Noted, [4]))
    run_all()
    assert entries() == [1, 2, 3, 4]


def test_what_is_left_behind_can_be_cleaned_and_is_still_refused() -> None:
    """`--clean` empties the old side of this context only; its old processes are refused as ever."""
    put(*steps(Checked, 2))
    run_all()
    with pytest.raises(TransferRefused, match="has not been transferred"):
        transfer.clean_old_side("shop", "other")
    transfer.transfer("shop", "other")
    transfer.clean_old_side("shop", "other")
    assert not any(everything("default").values())
    assert rows(InboxMessage, "default", "depot")
    with pytest.raises(ContextMoved):
        put(*steps(Noted, 1))


# What is refused


def test_wrong_names_are_refused() -> None:
    """An unknown context, an unknown database and the one it lives on have an error each."""
    with pytest.raises(NotAContext, match="no context 'shopp'"):
        transfer.plan_transfer("shopp", "other")
    with pytest.raises(UnknownName, match=r"no database 'othr' in DATABASES.*'other'"):
        transfer.plan_transfer("shop", "othr")
    with pytest.raises(TransferRefused, match="lives on the database 'default' already"):
        transfer.plan_transfer("shop", "default")


@contextmanager
def without_picks(alias: str) -> Iterator[None]:
    """Hide a table of the depot on one of the databases."""
    rename = "ALTER TABLE {} RENAME TO {}"
    with connections[alias].cursor() as cursor:
        cursor.execute(rename.format("depot_pick", "depot_pick_away"))
    try:
        yield
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute(rename.format("depot_pick_away", "depot_pick"))


def test_tables_that_are_missing_are_named() -> None:
    """The error names the tables and the command that makes them."""
    refused = pytest.raises(
        TransferRefused, match=r"depot_pick: run manage.py migrate --database o"
    )
    with without_picks("other"), refused:
        transfer.transfer("depot", "other")


def test_columns_that_are_missing_are_named() -> None:
    """A database that was not migrated to the end is refused before anything is changed."""
    rename = "ALTER TABLE depot_pick RENAME COLUMN {} TO {}"
    refused = pytest.raises(TransferRefused, match=r"depot_pick .*lacks the columns number: run")
    with connections["other"].cursor() as cursor:
        cursor.execute(rename.format("number", "number_away"))
        try:
            with refused:
                transfer.transfer("depot", "other")
        finally:
            cursor.execute(rename.format("number_away", "number"))


def test_two_aliases_of_one_database_are_refused() -> None:
    """Closing the old side would close the new one as well."""
    connections.databases["again"] = dict(connections.databases["default"])
    try:
        with pytest.raises(TransferRefused, match="'default' and 'again' name one and the same"):
            transfer.transfer("shop", "again")
    finally:
        connections["again"].close()
        del connections.databases["again"]
        delattr(connections._connections, "again")


def test_ids_that_were_reserved_for_an_aborted_transfer_are_given_out_again() -> None:
    """Otherwise each transfer that is aborted would use up a thousand million of them."""
    put(*steps(Noted, 2))
    transfer.transfer("shop", "other", hold=True)
    transfer.abort_transfer("shop", "other")
    assert {last_id(connections["other"], model) for model in QUEUE_MODELS} == {0}


def test_ids_that_go_beyond_the_reserve_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shifted, they could be those of another context on the new side."""
    monkeypatch.setattr(sequences, "RESERVE", 2)
    with (
        striking("transfer.after_copy", lambda: put(*steps(Noted, 3))),
        pytest.raises(TransferRefused, match="has used up the ids that were reserved"),
    ):
        transfer.transfer("shop", "other")


def test_a_context_that_was_never_elsewhere(settings: Any) -> None:
    """Where its ContextConfig names a database without its tables, there is nothing to be moved."""
    deploy(settings, "depot")
    refused = pytest.raises(TransferRefused, match="lives on the database 'other' already")
    with without_picks("default"), refused:
        transfer.plan_transfer("depot", "other")


def test_rows_of_a_stranger_on_the_new_side_are_not_touched() -> None:
    """Rows of the context that did not come from this transfer stop it before it begins."""
    Pick.objects.using("other").create(consumer="pick", order="a", number=1)
    with pytest.raises(TransferRefused, match=r"has rows of 'depot'.*depot_pick"):
        transfer.transfer("depot", "other")
    assert not Transfer.objects.using("other").exists()
    Pick.objects.using("other").create(consumer="pick", order="a", number=2)
    put(Wanted(order="a", number=1))


def test_two_hand_overs_of_a_context_do_not_meet(settings: Any) -> None:
    """Begun in one direction it can neither be begun in the other, nor a second time elsewhere."""
    transfer.transfer("shop", "other", hold=True)
    with pytest.raises(TransferRefused, match="being transferred"):
        transfer.transfer("shop", "default", old="other")
    transfer.transfer("shop", "other")
    deploy(settings, "shop")
    with pytest.raises(TransferRefused, match="lives on the database 'other' already"):
        transfer.transfer("shop", "other", old="other")


def test_the_old_side_can_be_named(settings: Any) -> None:
    """With the new settings deployed already, the old side is that of the ContextConfig, or named."""
    put(*steps(Noted, 1))
    deploy(settings, "shop")
    assert transfer.plan_transfer("shop", "other").old == "default"
    assert transfer.transfer("shop", "other", old="default").state == "open"
    run_all()
    assert entries() == [1]


# The command


def run(*arguments: str, **options: Any) -> str:
    """Run the command and return what it printed."""
    out = StringIO()
    call_command("transfer_context", *arguments, stdout=out, stderr=StringIO(), **options)
    return out.getvalue()


def test_a_dry_run_counts_and_changes_nothing() -> None:
    """It says how many rows of which table would go, and nothing is closed."""
    put(*steps(Noted, 2))
    printed = run("shop", "--to", "other", "--dry-run")
    assert "outbox_inbox_outboxmessage: 2 rows" in printed
    assert "2 rows of shop would go from 'default' to 'other'" in printed
    assert not Transfer.objects.exists()
    assert not Transfer.objects.using("other").exists()
    put(*steps(Noted, [3]))


def test_the_command_says_what_to_deploy() -> None:
    """The last line names the setting, and the report says that both sides are the same."""
    put(*steps(Noted, 2))
    printed = run("shop", "--to", "other")
    assert "outbox_inbox_outboxmessage: 2 rows, the same" in printed
    assert 'OUTBOX_INBOX["CONTEXTS"]["shop"] = {"database": "other"}' in printed


def test_the_command_prints_one_document() -> None:
    """With --format json the report is one JSON document."""
    put(*steps(Noted, 2))
    held = json.loads(run("shop", "--to", "other", "--hold", "--format", "json"))
    assert (held["state"], held["from"], held["to"]) == ("moved", "default", "other")
    found = json.loads(run("shop", "--to", "other", "--format", "json"))
    assert (found["state"], found["differences"]) == ("open", 0)
    counts = {each["table"]: each["rows"] for each in found["tables"]}
    assert counts["outbox_inbox_outboxmessage"] == 2
    assert all(len(each["checksum"]) == 64 for each in found["tables"])


@pytest.mark.parametrize(
    ("label", "to", "code"), [("shopp", "other", 2), ("shop", "nowhere", 2), ("shop", "default", 1)]
)
def test_exit_codes(label: str, to: str, code: int) -> None:
    """A context or database that does not exist is wrong usage; a transfer that cannot be is an error."""
    with pytest.raises(CommandError) as caught:
        run(label, "--to", to)
    assert caught.value.returncode == code


def test_the_command_takes_back_and_cleans() -> None:
    """--abort and --clean say what they have done."""
    put(*steps(Noted, 1))
    run("shop", "--to", "other", "--hold")
    assert "Aborted" in run("shop", "--to", "other", "--abort")
    assert "Nothing to abort" in run("shop", "--to", "other", "--abort")
    run("shop", "--to", "other")
    assert "Deleted 1 row of shop" in run("shop", "--to", "other", "--clean")
