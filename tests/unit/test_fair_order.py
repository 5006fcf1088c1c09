"""How the groups of one page take turns, and what a turn that was cut off leaves to the next one."""

from types import SimpleNamespace

import pytest

from outbox_inbox.inbox.fair_order import take_turns


def page(*rows):
    """Return rows of one consumer, such as "a1": the delivery 1 of the key "a"; "-" is no key."""
    return [
        SimpleNamespace(consumer="note", key=None if row[0] == "-" else row[0], id=int(row[1:]))
        for row in rows
    ]


def in_turn(rows, before=()):
    """Return the ids in the order of the turns; ``before``: as `take_turns`, by key."""
    cut_off = {("note", key): id_ for key, id_ in dict(before).items()}
    return [row.id for row in take_turns(rows, cut_off)[0]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["a1", "a2", "a3", "b4", "b5", "c6"], [1, 4, 6, 2, 5, 3]),
        (["a1", "b2", "c3"], [1, 2, 3]),
        (["-1", "-2", "-3", "a4"], [1, 4, 2, 3]),
    ],
    ids=["several of a key", "one of each key", "without a key"],
)
def test_each_group_has_one_message_in_a_round(rows, expected):
    """A message with many others of its key before those of another delays these by one."""
    assert in_turn(page(*rows)) == expected


def test_a_group_that_was_not_reached_goes_before_a_new_one_and_one_that_was_last():
    """Otherwise handlers that take a whole turn would serve the oldest key at each turn."""
    before = {"a": 1, "b": 3, "c": 5}
    assert in_turn(page("a2", "b3", "b4", "c5", "d6"), before) == [3, 5, 6, 2, 4]


def test_a_group_keeps_its_place_over_several_turns():
    """With one message a turn, each of three keys has every third turn."""
    left = page(
        *(f"{key}{n * 10 + number}" for n in range(1, 5) for number, key in enumerate("abc"))
    )
    served, cut_off = [], {}
    for _ in range(9):
        rows, cut_off = take_turns(left, cut_off)
        served.append(rows[0].key)
        left.remove(rows[0])
    assert "".join(served) == "abcabcabc"
