"""A view fits a contract exactly when it reads every message of it."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated
from uuid import UUID

import pytest
from pydantic import Field

from outbox_inbox import IntegrationEvent
from outbox_inbox.events.codec import view_problems


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Larger(Enum):
    LARGE = "large"


class Number(Enum):
    ONE = 1


@dataclass(frozen=True)
class Line:
    item: str
    count: int = 1


@dataclass(frozen=True)
class Item:
    item: str


@dataclass(frozen=True)
class Named:
    name: str


@dataclass(frozen=True)
class Node:
    children: "list[Node]"


@dataclass(frozen=True)
class Tree:
    children: "list[Tree]"


@dataclass(frozen=True)
class Leaf:
    children: list[str]


def problems(published, view):
    """Return what is wrong with a view of a contract; each has one field, of these types."""

    class Published(IntegrationEvent, name="a.published"):
        value: published

    class View(IntegrationEvent, name="a.published"):
        value: view

    return view_problems(Published, View)


@pytest.mark.parametrize(
    ("published", "view"),
    [
        (str, str),
        (str, str | None),
        (int, float),
        (int, Decimal),
        (Decimal, str),
        (UUID, str),
        (datetime, str),
        (Size, str),
        (Number, int),
        (Size, Size),
        (date, date | None),
        (int | str, str | int | None),
        (bool, bool),
        (list[int], list[float]),
        (list[int], tuple[int, ...]),
        (tuple[int, str], list[int | str]),
        (tuple[int, str], tuple[float, str]),
        (dict[str, int], dict[str, int | None]),
        (Line, Item),
        (Item, Line),
        (Item, Named | Line | None),
        (list[Line], list[Item]),
        (Line, dict[str, str | int]),
        (Line | None, Item | None),
        (Node, Tree),
        (str, Annotated[str, Field(max_length=3)]),
    ],
    ids=str,
)
def test_what_reads_everything_fits(published, view):
    """It may be wider, and need less."""
    assert problems(published, view) == []


@pytest.mark.parametrize(
    ("published", "view"),
    [
        (str, int),
        (str, UUID),
        (str, Size),
        (str | None, str),
        (float, int),
        (int, bool),
        (int, datetime),
        (int, timedelta),
        (bool, int),
        (datetime, date),
        (time, datetime),
        (Size, Larger),
        (int | str, int),
        (list[int], list[str]),
        (list[int], tuple[int, int]),
        (tuple[int, str], tuple[int, str, str]),
        (list[int], dict[str, int]),
        (dict[str, str], Item),
        (dict[str, int], dict[str, str]),
        (Line, str),
        (Line, Named),
        (Line, dict[str, int]),
        (Node, Leaf),
    ],
    ids=str,
)
def test_what_cannot_read_something_does_not_fit(published, view):
    """One value that is not read is enough."""
    (problem,) = problems(published, view)
    assert problem.startswith("value")


def test_a_problem_names_the_field_within_a_field():
    """With both types."""
    (problem,) = problems(list[Line], list[Named])
    assert problem == "value[].name is required, and is not published"
