"""``manage.py read_stream``: a stream as people and programs want to see it."""

import json
import tracemalloc
from functools import partial
from uuid import UUID

import pytest
from django.core.management import call_command
from django.utils import timezone

from outbox_inbox.contexts import get_context
from outbox_inbox.models import StoredEvent
from outbox_inbox.operations import read_entries, streams
from tests.depot.events import Wanted
from tests.shop.events import Grown, Loose, Noted, Unheard
from tests.support.commands import Result
from tests.support.movers import put, steps

pytestmark = pytest.mark.django_db

read = partial(Result, "read_stream")
ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u200b"


def document(*arguments):
    """Return the JSON document, which is all that is printed."""
    return json.loads(read(*arguments, "--format", "json").out)


@pytest.fixture
def stream():
    """A stream of three events."""
    return put(*steps(Noted, 3), stream="order-1", headers={"by": "me"})


# For people


def test_each_event_is_shown_with_its_version_time_name_and_fields(stream):
    """And with the end of the ids by which it belongs to others."""
    result = read("order-1")
    first = stream[0]
    assert result.code == 0
    assert result.lines[:3] == [
        f"1  {first.time:%Y-%m-%d %H:%M:%S}  shop.Noted v1",
        '   number 1  order "a"',
        f"   key a  correlation …{str(first.correlation_id)[-8:]}",
    ]
    assert result.lines[-1] == "3 events of order-1 (shop), now at version 3."


def test_the_cause_of_an_event_is_shown(stream):
    """Where it has one."""
    StoredEvent.objects.filter(version=2).update(causation_id=UUID(int=0xABCDEF12))
    assert "  caused by …abcdef12" in read("order-1").out


def test_reading_begins_after_a_version_and_ends_at_a_limit(stream):
    """Both together make pages."""
    result = read("order-1", "--after", "1", "--limit", "1")
    assert [line[0] for line in result.lines if not line.startswith(" ")] == ["2", "1"]
    assert result.lines[-1] == "1 event of order-1 (shop), now at version 3."


def test_after_the_last_version_there_is_nothing(stream):
    """It is not an error."""
    result = read("order-1", "--after", "3")
    assert (result.code, result.lines) == (0, ["0 events of order-1 (shop), now at version 3."])


@pytest.mark.parametrize("width", [40, 60, 100])
def test_lines_fit_the_terminal(width, monkeypatch):
    """Long fields go on in the next line, under the first."""
    monkeypatch.setenv("COLUMNS", str(width))
    put(Noted(order="word " * 60 + "x" * 300, number=1), stream="order-1", key="k" * 150)
    lines = read("order-1").lines[:-1]
    assert max(map(len, lines)) <= width
    assert all(line.startswith("   ") for line in lines[1:])


def test_a_huge_value_is_cut_for_people_and_whole_for_programs():
    """A person does not read 100,000 letters."""
    put(Loose(order="x" * 100_000, number=1), stream="order-1")
    assert "… (100,002 characters)" in " ".join(read("order-1").out.split())
    assert len(document("order-1")["events"][0]["data"]["order"]) == 100_000


def test_with_verbosity_0_only_the_events_are_printed(stream):
    """As with every command."""
    assert not any("now at version" in line for line in read("order-1", verbosity=0).lines)


# For programs


def test_json_is_one_document_with_everything(stream):
    """Ids in full, headers, and the event in its newest version."""
    found = document("order-1", "--limit", "1")
    (first,) = found.pop("events")
    row = StoredEvent.objects.get(version=1)
    assert found == {"context": "shop", "stream": "order-1", "stream_version": 3, "unreadable": 0}
    assert first == {
        "version": 1,
        "position": row.position,
        "time": stream[0].time.isoformat(),
        "id": str(stream[0].id),
        "type": "shop.Noted",
        "schema_version": 1,
        "key": "a",
        "correlation_id": str(stream[0].correlation_id),
        "causation_id": None,
        "headers": {"by": "me"},
        "data": {"order": "a", "number": 1},
    }


def test_json_of_no_events_is_a_document_too(stream):
    """With an empty list."""
    assert document("order-1", "--after", "9")["events"] == []


def test_an_old_event_is_shown_as_it_is_read_today():
    """Upcasters have done their work; the output has the stored version."""
    put(Grown(order="a", number=7), stream="order-1")
    StoredEvent.objects.update(schema_version=1, payload='{"count":7,"order":"a"}')
    (event,) = document("order-1")["events"]
    assert (event["schema_version"], event["data"]) == (1, {"order": "a", "number": 7})


# What cannot be read


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"type": "shop.Gone"}, "no class of that name in this process: it was removed"),
        ({"payload": '{"order":'}, "not acceptable JSON"),
        ({"payload": '{"order":7,"number":1}'}, "the data does not fit Noted: order"),
        ({"schema_version": 9}, "NewerVersion"),
        ({"headers": "["}, "not acceptable JSON"),
    ],
)
def test_an_event_that_cannot_be_read_is_shown_as_it_is_stored(stream, damage, reason):
    """With the reason, and the others go on; the exit code is 3."""
    StoredEvent.objects.filter(version=2).update(**damage)
    row = StoredEvent.objects.get(version=2)

    result = read("order-1")
    text = " ".join(result.out.split())
    assert (result.code, result.error) == (3, "1 event of 'order-1' cannot be read")
    assert "cannot be read: " in text
    assert reason in text
    assert f"payload {row.payload}" in text
    assert 'number 3 order "a"' in text

    found = document("order-1")
    bad = found["events"][1]
    assert (found["unreadable"], len(found["events"])) == (1, 3)
    assert (bad["data"], bad["payload"]) == (None, row.payload)
    assert reason in bad["problem"]


# Hostile content


def harmless(text):
    """Return whether a text has nothing that steers a terminal or hides something."""
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize("arguments", [[], ["--format", "json"]], ids=["text", "json"])
def test_what_could_steer_a_terminal_is_escaped(arguments):
    """In fields, keys, headers, names of streams, and in what cannot be read."""
    name = f"order-{ESCAPE}"
    put(Noted(order=ESCAPE, number=1), stream=name, key=ESCAPE, headers={ESCAPE: ESCAPE})
    put(*steps(Noted, 1), stream=name)
    StoredEvent.objects.filter(version=2).update(payload=ESCAPE, type=f"shop.{ESCAPE}")
    result = read(name, *arguments)
    assert result.code == 3
    assert harmless(result.out + result.error)
    assert "owned" in result.out


def test_escaped_json_says_the_same():
    """A parser gets back what was stored."""
    put(Noted(order=f"Blåbär {ESCAPE}", number=1), stream="order-1")
    assert document("order-1")["events"][0]["data"]["order"] == f"Blåbär {ESCAPE}"
    assert "Blåbär" in read("order-1", "--format", "json").out


# Finding it


def test_a_stream_that_does_not_exist_is_an_error_with_a_suggestion():
    """Exit code 1, and nothing on standard output."""
    for number in (10247, 10348, 20249):
        put(*steps(Noted, 1), stream=f"order-{number}")
    result = read("order-1024")
    assert (result.code, result.out) == (1, "")
    assert result.error == ("no context has a stream 'order-1024'; did you mean 'order-10247'?")


def test_nothing_is_suggested_where_nothing_is_alike():
    """A wrong guess is worse than none."""
    put(*steps(Noted, 1), stream="order-1")
    assert read("something else").error == "no context has a stream 'something else'"


def test_the_context_need_not_be_said(stream):
    """It is the one that has the stream."""
    assert document("order-1")["context"] == "shop"


def test_of_several_contexts_with_a_stream_of_that_name_one_must_be_chosen(stream):
    """Wrong usage, and the error names them."""
    put(Wanted(order="a", number=9), stream="order-1")
    result = read("order-1")
    assert (result.code, result.out) == (2, "")
    assert "several contexts have a stream 'order-1': depot, shop" in result.error
    assert document("order-1", "--context", "depot")["events"][0]["data"]["number"] == 9


def test_a_context_without_the_stream_says_so(stream):
    """Though another has it."""
    result = read("order-1", "--context", "depot")
    assert (result.code, result.error) == (1, "depot has no stream 'order-1'")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["order-1", "--context", "shpo"], "did you mean 'shop'"),
        ([""], "stream must be text of 1 to 200 characters"),
        (["x" * 201], "stream must be text of 1 to 200 characters"),
        (["a\0b"], "NUL"),
        (["a\udc80"], "surrogate"),
    ],
)
def test_wrong_usage(arguments, problem):
    """The error says what is wrong; the exit code is 2."""
    result = read(*arguments)
    assert (result.code, result.out) == (2, "")
    assert problem in result.error


@pytest.mark.parametrize(
    "arguments",
    [["--after", "-1"], ["--after", "x"], ["--limit", "0"], ["--limit", "²"], ["--format", "xml"]],
)
def test_wrong_values_are_refused_by_the_parser(arguments, stream):
    """As those of every option: on a shell, exit code 2."""
    result = read("order-1", *arguments)
    assert (bool(result.code), result.out) == (True, "")
    assert arguments[0] in result.error


# Much


def test_a_long_stream_is_read_page_by_page(monkeypatch):
    """Each event once, also where a page ends with the stream or with the limit."""
    monkeypatch.setattr(streams, "CHUNK", 3)
    put(*steps(Unheard, 9), stream="order-1")
    for limit, after in [(None, 0), (3, 0), (4, 2), (9, 0), (50, 6)]:
        found = [
            each.version
            for each in read_entries(get_context("shop"), "order-1", after=after, limit=limit)
        ]
        assert found == [*range(1, 10)][after:][:limit]


class Nowhere:
    """A stream that drops all output."""

    def write(self, text):
        """Forget it."""

    def flush(self):
        """Do nothing."""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_long_stream_needs_no_more_memory_than_a_page_of_it(form, monkeypatch):
    """The document is written while it is read."""
    monkeypatch.setattr(streams, "CHUNK", 100)
    put(*steps(Unheard, 200), stream="short")
    row = StoredEvent.objects.first()
    StoredEvent.objects.bulk_create(
        StoredEvent(
            context="shop", stream="long", version=version, message_id=UUID(int=version),
            type=row.type, schema_version=1, key="a", payload=row.payload, headers="{}",
            correlation_id=row.correlation_id, recorded_at=timezone.now(), kind="domain",
            key_hash=0, hops=0, in_outbox=True,
        )
        for version in range(1, 5_001)
    )  # fmt: skip

    def peak(name):
        tracemalloc.start()
        call_command("read_stream", name, format=form, stdout=Nowhere(), no_color=True)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak("short")  # without the imports and compilations of the first call
    assert peak("long") < 1.5 * peak("short")
