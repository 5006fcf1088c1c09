import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox_inbox.events.codec.json_text import (
    check_limits,
    limit_problem,
    load_object,
    text_problem,
)
from outbox_inbox.exceptions import UnreadableMessage

LARGE = 262_144


def nested(levels):
    """Return an object with so many levels, itself included."""
    return '{"a":' * levels + "1" + "}" * levels


def with_nodes(number, node="0"):
    """Return an object with so many nodes, itself and its array included."""
    return '{"a":[' + ",".join([node] * (number - 2)) + "]}"


# Many brackets in front, so that the quick counts alone cannot let it pass.
BUSY = "[]," * 100


@pytest.mark.parametrize(
    "data",
    [
        nested(64),
        with_nodes(10_000),
        with_nodes(10_000, "{}"),
        with_nodes(10_000, "[ \n]"),
        with_nodes(10_000, '""'),
        with_nodes(10_000, '","'),
        '{"a":[' + BUSY + nested(62) + "]}",
        '{"a":[' + BUSY + '"' + "[" * 500 + '"]}',
        '{"a":[' + BUSY + '"\\"' + "[" * 500 + '"]}',
        '{"a":"' + "," * 20_000 + '"}',
        '{"' + "[" * 20_000 + '":1}',
        '{"a":"' + "x" * (LARGE - 8) + '"}',
        '{"a":"' + "\u00e9" * (LARGE // 2 - 4) + '"}',
        "",
        "not JSON",
    ],
)
def test_within_limits(data):
    """What stands exactly at a limit, or inside of a text, is let through."""
    assert limit_problem(data, LARGE) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (nested(65), "is nested more than 64 levels deep"),
        ('{"a":[' + BUSY + nested(63) + "]}", "is nested more than 64 levels deep"),
        ('{"\\\\":' + nested(64) + "}", "is nested more than 64 levels deep"),
        (with_nodes(10_001), "has more than 10,000 nodes"),
        (with_nodes(10_001, "{}"), "has more than 10,000 nodes"),
        (with_nodes(10_001, '","'), "has more than 10,000 nodes"),
        ('{"a":"' + "x" * (LARGE - 7) + '"}', "has 262145 bytes, and"),
        ('{"a":"' + "\u00e9" * (LARGE // 2 - 3) + '"}', "has 262146 bytes, and"),
    ],
)
def test_beyond_limits(data, problem):
    """What is one byte, level or node beyond a limit is refused, and the error says which."""
    with pytest.raises(UnreadableMessage, match=problem):
        check_limits(data, LARGE)


JSON = st.recursive(
    st.none() | st.text(alphabet='[]{},"\\a\u00e9', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\'), inner, max_size=3)
    ),
)


def depth_of(tree):
    """Count the levels of a tree."""
    items = tree.values() if isinstance(tree, dict) else tree
    return 1 + max(map(depth_of, items), default=0) if isinstance(tree, list | dict) else 0


@given(tree=JSON, levels=st.integers(55, 70), spaces=st.sampled_from([None, 1]))
def test_depth_is_exact(tree, levels, spaces):
    """Depth is judged as a parser would, whatever brackets and quotes the texts hold."""
    for _ in range(levels - depth_of(tree)):
        tree = [tree]
    data = json.dumps({"a": tree, "b": [[]] * 100}, indent=spaces, ensure_ascii=False)
    assert (limit_problem(data, LARGE) is None) == (levels + 1 <= 64)


HOSTILE = {
    "open brackets": "[" * LARGE,
    "closing brackets": "]" * LARGE,
    "pairs of brackets": "[]" * (LARGE // 2),
    "spaced brackets": "[ " * (LARGE // 2),
    "deep objects": '{"":' * (LARGE // 4),
    "quotes": '"' * LARGE,
    "backslashes": '"' + "\\" * (LARGE - 1),
    "escaped quotes": '"' + '\\"' * (LARGE // 2 - 1),
    "text, bracket, text": '{"a":["' + '",["' * (LARGE // 4 - 2),
    "commas": "[" + "," * (LARGE - 1),
    "spaces": "{" + " " * (LARGE - 2) + "}",
    "one long number": '{"a":' + "9" * (LARGE - 6) + "}",
    "many long numbers": '{"a":[' + ",".join(["9" * 4_300] * 60) + "]}",
    "long fraction": '{"a":0.' + "9" * (LARGE - 8) + "}",
    "a key twice among many": "{" + ",".join(f'"{n}":0' for n in range(9_990)) + ',"9989":0}',
    "surrogates": '{"a":"' + "\\ud800" * (LARGE // 6 - 2) + '"}',
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_not_slow(data):
    """No text within the size limit takes the time of more than a few database round trips."""
    began = time.process_time()
    try:
        check_limits(data, LARGE)
        load_object(data)
    except UnreadableMessage:
        pass
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "not acceptable JSON: Expecting value"),
        ("{", "not acceptable JSON: Expecting property name"),
        ('{"a":1,}', "not acceptable JSON"),
        ('{"a":1} {}', "not acceptable JSON: Extra data"),
        ("\ufeff{}", "not acceptable JSON"),
        ('{"a":"\n"}', "not acceptable JSON: Invalid control character"),
        ('{"a":"\\x"}', "not acceptable JSON"),
        ("{'a':1}", "not acceptable JSON"),
        ('{"a":01}', "not acceptable JSON"),
        ('{"a":NaN}', "NaN is not a JSON number"),
        ('{"a":-Infinity}', "-Infinity is not a JSON number"),
        ('{"a":1e5000}', "the number 1e5000 is out of range"),
        ('{"a":-1e309}', "the number -1e309 is out of range"),
        ('{"a":' + "9" * 5_000 + "}", "Exceeds the limit"),
        ('{"a":1,"b":2,"a":3}', "one object has the key 'a' twice"),
        ('{"x":[{"a":1,"\\u0061":2}]}', "one object has the key 'a' twice"),
        ("[]", "is not an object, but an array"),
        ('"text"', "is not an object, but a text"),
        ("1", "is not an object, but a number"),
        ("1.5", "is not an object, but a number"),
        ("true", "is not an object, but true or false"),
        ("null", "is not an object, but null"),
        ('{"a":["x\\u0000"]}', "a text in the JSON holds a NUL character at position 1"),
        ('{"a":"\\ud800"}', "a text in the JSON holds a lone surrogate at position 0"),
        ('{"\\udfff":1}', "a text in the JSON holds a lone surrogate"),
        ('{"a":"\ud800"}', "a text in the JSON holds a lone surrogate"),
        ("[" * 100_000, "not acceptable JSON"),
    ],
)
def test_unacceptable_text(data, message):
    """Text that is not an object, or means different things to different readers, is refused."""
    with pytest.raises(UnreadableMessage, match=message):
        load_object(data)


def test_long_key_is_cut_in_the_error():
    """An error never repeats a whole hostile text."""
    key = "k" * 100_000
    with pytest.raises(UnreadableMessage) as raised:
        load_object(f'{{"{key}":1,"{key}":2}}')
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("data", "tree"),
    [
        ("{}", {}),
        (' {"a" : [1, -2.5, true, null]} ', {"a": [1, -2.5, True, None]}),
        ('{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ('{"a":"\\\\u0000"}', {"a": "\\u0000"}),
        ('{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
    ],
)
def test_acceptable_text(data, tree):
    """A well-formed object is parsed as JSON says."""
    assert load_object(data) == tree


@given(st.text(alphabet=st.characters()))
def test_only_whole_unicode_text_is_storable(text):
    """Text without NUL and lone surrogates has no problem, whatever else it holds."""
    storable = "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
    assert (text_problem(text) is None) == storable
