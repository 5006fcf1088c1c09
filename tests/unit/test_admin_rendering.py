import time
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import CharField, TextField
from django.utils import timezone
from django.utils.safestring import SafeString

from outbox_inbox.admin import rendering, untrusted
from outbox_inbox.admin.base import QueueAdmin
from outbox_inbox.signals.escaping import has_invisible

PAGES = [each for each in admin.site._registry.values() if isinstance(each, QueueAdmin)]

HOSTILE = {
    "deep brackets": "[" * 131_072 + "]" * 131_072,
    "brackets never closed": "[" * 262_144,
    "deep names": '{"a":' * 43_000 + "1" + "}" * 43_000,
    "many values": "[" + ",".join(["1"] * 131_000) + "]",
    "quotes only": '"' * 262_144,
    "backslashes only": '"' + "\\" * 262_143,
    "digits only": "1" * 262_144,
    "spaces only": " " * 262_144,
    "to be escaped": "<" * 262_144,
    "deep and wide": "[" * 900 + ",".join(["1"] * 130_000) + "]" * 900,
}


def test_a_document_is_indented():
    """JSON is laid out with one value a line."""
    shown = rendering.indented('{"a":[1,{"b":null}],"c":{},"d":[]}')
    assert shown == (
        '{\n  "a": [\n    1,\n    {\n      "b": null\n    }\n  ],\n  "c": {},\n  "d": []\n}'
    )


def test_punctuation_inside_a_string_is_text():
    """Brackets, commas and escaped quotes inside a string do not break lines."""
    assert rendering.indented('["a\\"[{,:"]') == '[\n  "a\\"[{,:"\n]'


@pytest.mark.parametrize("text", ["1e5000", "-0.10", "12345678901234567890.000", r'"\ud800"'])
def test_values_are_shown_as_stored(text):
    """A number or an escape is shown with the very characters that are stored."""
    assert rendering.indented(text) == text


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', '{"a":1.50}', '{"a":[1e3, 1e400]}', '["é\\u00e9"]']
)
def test_what_a_parser_would_change_is_shown_as_stored(text):
    """Names given twice, numbers and escapes that JSON has other forms of are not rewritten."""
    assert rendering.indented(text) == text


@pytest.mark.parametrize(
    ("text", "line"), [('{"a":"\\u00e9"}', '  "a": "\\u00e9"'), ('{ "a":\n"é "}', '  "a": "é "')]
)
def test_other_characters_stay_as_they_are_written(text, line):
    """An escape stays an escape, a letter a letter, and only space between values changes."""
    assert rendering.indented(text) == f"{{\n{line}\n}}"


def test_two_thousand_levels_are_shown_as_they_are():
    """A document that is too deep for a parser does not break the page."""
    text = "[" * 2000 + "]" * 2000
    assert rendering.indented(text) == text


@pytest.mark.parametrize(
    "text", ["hello", "{a:1}", '{"a" "b"}', "[1 2]", '"open', "[", "]", "[}", '{"a":1}x', "", "NaN"]
)
def test_what_is_no_json_is_shown_as_it_is(text):
    """Nothing is added to or taken from a text that is not JSON."""
    assert rendering.indented(text) == text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_takes_long(name):
    """256 KB of anything are shown in linear time: well under two seconds on any machine."""
    begin = time.process_time()
    rendering.document(HOSTILE[name])
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("name", HOSTILE)
def test_no_text_grows_without_bound(name):
    """Indentation cannot turn a small document into a page of many megabytes."""
    assert len(rendering.indented(HOSTILE[name])) <= 4 * 262_144


def test_of_a_huge_text_the_beginning_is_shown():
    """A text beyond the limit is cut, and the page says so."""
    shown = rendering.document("x" * 5_000_000)
    assert "The first 1,048,576 of 5,000,000 characters." in shown


def test_markup_is_escaped():
    """What is stored never becomes part of the page's markup."""
    assert "<script>" not in rendering.document('{"a":"<script>alert(1)</script>"}')


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "now"),
        (-3.9, "3 s ago"),
        (-60, "1 min ago"),
        (-7_199, "1 h ago"),
        (-200_000, "2 d ago"),
        (90, "in 1 min"),
        (3 * 86_400, "in 3 d"),
    ],
)
def test_a_distance_is_told_in_its_largest_unit(seconds, shown):
    """A time is shown as an operator would say it."""
    assert rendering.distance(timedelta(seconds=seconds)) == shown


def test_a_time_has_its_full_form_in_the_title():
    """The title has the time to the second."""
    at = timezone.now().replace(2024, 2, 29, 12, 30, 5, 0)
    assert 'title="2024-02-29 12:30:05+00:00"' in rendering.moment(at)


def test_an_excerpt_is_one_line():
    """A list shows the first line of an error, shortened."""
    assert rendering.excerpt("a" * 100 + "\nb", 10) == "aaaaaaaaa…"


TRUSTED = {"context", "process", "consumer", "subscription", "alias", "layout", "done", "target"}
"""Texts that only the code or the database writes, as a name or a snapshot."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.model.__name__)
def test_no_text_from_outside_is_a_plain_column(page):
    """Django shows a field of the model as it is; a column makes its text visible."""
    fields = {each.name: each for each in page.model._meta.fields}
    texts = {name for name, each in fields.items() if isinstance(each, CharField | TextField)}
    texts -= {name for name in texts if fields[name].choices}
    names = {*page.list_display, *flatten_fieldsets(page.fieldsets)}
    assert names & texts - TRUSTED == set()


def test_a_payload_is_what_it_looks_like():
    """A mark of direction, or one that has no width, is shown as the escape that JSON has for it."""
    shown = rendering.document('{"to":"a\u202eb\u200bc","é":1}')
    assert r"a\u202eb\u200bc" in shown
    assert "é" in shown


def test_a_traceback_keeps_its_lines():
    """And nothing else that is not visible."""
    assert "a\n\tb\\x1b" in rendering.preformatted("a\n\tb\x1b")


@pytest.mark.parametrize("show", [rendering.line, rendering.dotted_name, rendering.excerpt])
def test_a_text_in_a_line_is_visible(show):
    """Keys, names, errors."""
    assert r"a\x1b\u202eb" in show("a\x1b\u202eb")
    assert len(show("x" * 100_000)) < 1_100


def test_a_link_is_visible_and_its_markup_stays():
    """Its text may be a text from outside, or a part of the page."""
    assert ">a\\u202e</a>" in rendering.link("/", "a\u202e")
    assert "><b>x</b></a>" in rendering.link("/", SafeString("<b>x</b>"))


@pytest.mark.parametrize(
    "text", ['{"a":"❤\ufe0f 👩\u200d💻"}', '{"a":\r\n1}'], ids=["pictures", "lines of Windows"]
)
def test_an_ordinary_text_of_another_system_is_not_dumped(text):
    """Parts of pictures, and line ends, are shown as escapes within it."""
    shown = untrusted.payload(text.encode())
    assert "00000000" not in shown
    assert not has_invisible(shown)
