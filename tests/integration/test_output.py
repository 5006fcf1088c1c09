"""Commands on a terminal that cannot encode what they print."""

import json
import re
from io import BytesIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from outbox_inbox import PermanentError
from outbox_inbox.models import StoredEvent
from tests.shop.events import Noted
from tests.support.movers import deliver, dispatch, failing, put, steps
from tests.support.script import playing

pytestmark = pytest.mark.django_db

ODD = "Ünïted… Łódź 東京 😀"
ENCODINGS = ["ascii", "latin-1", "cp437", "utf-8"]


def output(encoding, name, *arguments, errors="strict"):
    """Return what a command prints on a terminal of an encoding, and its error."""
    out, err = (TextIOWrapper(BytesIO(), encoding=encoding, errors=errors) for _ in range(2))
    problem = ""
    try:
        call_command(name, *arguments, stdout=out, stderr=err, no_color=True)
    except CommandError as error:
        problem = str(error)
    out.flush()
    return out.buffer.getvalue().decode(encoding), problem


@pytest.fixture
def odd():
    """A stream, a dead message and a parked key, all with odd characters."""
    put(*steps(Noted, 2, order=ODD), stream=ODD, headers={"by": ODD})
    with playing(note=failing(1, order=ODD, error=PermanentError)):
        deliver(*steps(Noted, 1, order=ODD))
        dispatch()


COMMANDS = [
    ("read_stream", ODD),
    ("read_stream", f"{ODD[:-1]}x"),  # there is none: the error suggests the other one
    ("queue_stats",),
    ("show_contexts",),
    ("retry_messages", "--key", ODD, "--dry-run"),
    ("discard_messages", "--key", ODD, "--dry-run"),
]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_terminal_cannot_encode_is_escaped(odd, command, encoding):
    """The command ends as it does elsewhere, with the same lines."""
    everywhere, problem = output("utf-8", *command)
    shown, shown_problem = output(encoding, *command)
    assert shown_problem == problem
    assert len(shown.split()) == len(everywhere.split())
    if encoding == "utf-8":
        assert _without_ages(shown) == _without_ages(everywhere)


def test_the_output_of_the_locale_c_is_escaped_as_well(odd):
    """Its way with errors keeps foreign bytes and refuses every other character."""
    plain, escaping = (
        output("ascii", "read_stream", ODD, errors=errors)
        for errors in ("strict", "surrogateescape")
    )
    assert escaping == plain


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", [each for each in COMMANDS[:4] if "x" not in each[-1:]])
def test_json_stays_the_same_document(odd, command, encoding):
    """A parser reads the same values, whatever was escaped."""
    everywhere, problem = output("utf-8", *command, "--format", "json")
    shown, shown_problem = output(encoding, *command, "--format", "json")
    assert shown_problem == problem
    if everywhere:
        assert json.loads(_without_ages(shown)) == json.loads(_without_ages(everywhere))


@pytest.mark.parametrize("errors", ["replace", "backslashreplace", "ignore"])
def test_json_is_not_left_to_a_stream_that_replaces_characters(odd, errors):
    """What the stream would write is another value, or is not JSON at all."""
    command = ("read_stream", ODD, "--format", "json")
    shown, _ = output("ascii", *command, errors=errors)
    assert json.loads(shown) == json.loads(output("utf-8", *command)[0])


def _without_ages(text):
    return re.sub(r"[0-9]+\.[0-9]+", "0.0", text)


def test_the_ellipsis_of_a_short_id_becomes_dots(odd):
    """And other characters the escapes that JSON has."""
    shown, _ = output("ascii", "read_stream", ODD)
    last = str(StoredEvent.objects.first().correlation_id)[-8:]
    assert f"correlation ...{last}" in shown
    assert "\\u6771\\u4eac \\ud83d\\ude00" in shown


def test_a_stream_that_replaces_characters_itself_is_left_alone(odd):
    """Its own way is the choice of its owner."""
    out = TextIOWrapper(BytesIO(), encoding="ascii", errors="replace")
    call_command("read_stream", ODD, stdout=out, no_color=True)
    out.flush()
    assert b"?" in out.buffer.getvalue()


@pytest.mark.parametrize(
    "command", sorted(name for name, app in get_commands().items() if app == "outbox_inbox")
)
def test_the_help_of_each_command_can_be_printed_anywhere(command):
    """It is printed by argparse, so it has no character that a terminal may lack."""
    found = load_command_class("outbox_inbox", command).create_parser("manage.py", command)
    assert found.format_help().isascii()
