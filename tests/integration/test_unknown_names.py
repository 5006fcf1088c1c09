"""Names that a command does not know, and options that are given twice: never a quiet exit with 0."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

from outbox_inbox.models import OutboxMessage
from tests.support import rows
from tests.support.commands import Result

pytestmark = pytest.mark.django_db

DEAD = {
    "retry_messages": [],
    "discard_messages": ["--reason=x"],
}
"""The commands about messages that failed, with what else they need."""
KEPT = {"release_messages": [], "discard_messages": ["--queue=quarantine", "--reason=x"]}
"""Those about quarantined messages."""


def each(commands):
    """Run a test for each of some commands."""
    return pytest.mark.parametrize(("command", "more"), commands.items(), ids=list(commands))


# Unknown names: exit code 2


@each(DEAD)
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        (["--type=shop.Notde"], "did you mean 'shop.Noted'"),
        (["--all", "--consumer=shop.handlers.nope"], "did you mean 'shop.handlers.note'"),
    ],
    ids=["type", "consumer"],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_an_unknown_name_is_wrong_usage(command, more, wrong, meant, dry):
    """The error says what was probably meant: nothing was found since nothing has this name."""
    result = Result(command, "--context=shop", *wrong, *more, *dry)
    assert (result.code, meant in result.error) == (2, True)


@each(KEPT)
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("--type=shop.slod.v2", "did you mean 'shop.sold'"), ("--source=/shpo", "'shop'")],
    ids=["type", "source"],
)
def test_an_unknown_name_of_a_quarantined_message_is_wrong_usage(command, more, wrong, meant):
    """The names that are known are those to which the context subscribes."""
    result = Result(command, "--context=depot", wrong, *more)
    assert (result.code, meant in result.error) == (2, True)


@each(DEAD)
@pytest.mark.parametrize("known", [["--type=shop.Noted"], ["--all", "--consumer=shop.outbound"]])
def test_a_name_that_the_code_has_may_find_nothing(command, more, known):
    """A script that retries what is dead, if anything is, ends well."""
    assert Result(command, "--context=shop", *known, *more).code == 0


@each(DEAD)
def test_a_name_that_only_stored_messages_have_may_find_nothing(command, more):
    """Code that was removed has left them, and they are solved already."""
    message = rows.inbox_message(type="shop.Removed")
    rows.delivery(message, state="done", consumer="shop.handlers.removed")
    for which in (["--type=shop.Removed"], ["--all", "--consumer=shop.handlers.removed"]):
        assert Result(command, "--context=shop", *which, *more).code == 0


@each(KEPT)
@pytest.mark.parametrize("known", ["--type=shop.sold", "--type=shop.sold.v9", "--source=shop"])
def test_a_subscribed_name_may_have_nothing_in_quarantine(command, more, known):
    """In any version, with or without the slash."""
    assert Result(command, "--context=depot", known, *more).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["rebuild_projection", "no_such_projection"],
        ["transfer_context", "shop", "--to=nowhere"],
        ["retire_consumer", "--context=shop", "shop.handlers.nope"],
        ["rename_consumer", "--context=shop", "shop.handlers.nope", "shop.handlers.note"],
        ["retry_messages", "--context=shpo", "--all"],
    ],
    ids=lambda given: given[0],
)
def test_every_command_ends_with_2_for_a_name_that_it_does_not_know(arguments):
    """A context, a projection, a database or a consumer."""
    assert Result(*arguments).code == 2


# What is not stored: exit code 1


@each(DEAD)
@pytest.mark.parametrize("which", [f"--id={uuid4()}", "--key=nothing has it"], ids=["id", "key"])
@pytest.mark.parametrize("queue", ["both", "outbox", "inbox"])
def test_an_id_or_a_key_of_no_message_is_an_error(command, more, which, queue):
    """Exit code 1, as for a stream that does not exist; the summary says that nothing was done."""
    result = Result(command, "--context=shop", f"--queue={queue}", which, *more)
    assert result.code == 1
    assert "nothing" in result.out
    assert "no message in the " in result.error


@each(DEAD)
@pytest.mark.parametrize("make", [rows.outbox_message, rows.delivery])
def test_an_id_or_a_key_of_a_message_that_is_solved_is_no_error(command, more, make):
    """Otherwise the second run of a script would fail."""
    row = make(key="a", state="sent" if make is rows.outbox_message else "done")
    message = row if isinstance(row, OutboxMessage) else row.message
    for which in (f"--id={message.message_id}", "--key=a"):
        assert Result(command, "--context=shop", which, *more).code == 0


@each(KEPT)
def test_an_id_that_was_never_quarantined_is_an_error(command, more):
    """One that was released or discarded is not."""
    row = rows.quarantined(state="discarded")
    codes = [
        Result(command, "--context=depot", f"--id={id_}", *more).code
        for id_ in ("unknown", row.message_id)
    ]
    assert codes == [1, 0]


# Options that are given twice


ONE_CONTEXT = {
    "retry_messages": ["--all"],
    "discard_messages": ["--all", "--reason=x"],
    "release_messages": ["--all"],
    "read_stream": ["order-1"],
    "rebuild_projection": ["ranking"],
    "rename_consumer": ["old", "new"],
    "retire_consumer": ["name"],
}


@each(ONE_CONTEXT)
def test_a_command_for_one_context_refuses_a_second_one(command, more):
    """The last one would win in silence, and the first would be believed to be done."""
    result = Result(command, "--context=shop", "--context=depot", *more)
    assert (result.code != 0, result.out) == (True, "")
    assert "argument --context: given twice" in result.error


@pytest.mark.parametrize("option", ["--key", "--type", "--id"])
def test_a_selection_is_given_once(option):
    """Two keys are two commands."""
    twice = [f"{option}=a", f"{option}=b"]
    assert "given twice" in Result("retry_messages", "--context=shop", *twice).error


def test_several_contexts_are_several_where_a_command_takes_them():
    """The commands that work on all contexts take a list."""
    out = Result("queue_stats", "--context=shop", "--context=depot").out
    assert [line.split()[0] for line in out.splitlines()[1:5:2]] == ["shop", "depot"]


def test_an_option_that_is_given_twice_is_wrong_usage():
    """For a shell: exit code 2, and nothing on standard output."""
    found = subprocess.run(
        [sys.executable, "manage.py", "retry_messages", *["--context=shop"] * 2, "--all"],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (2, "")
