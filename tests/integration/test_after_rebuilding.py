"""What is as before once a read model was rebuilt: its worker, its subscription, the process."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Checkpoint
from outbox_inbox.operations.rebuilding import find_read_model, rebuild, shadow_tables
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.support.movers import put, raising
from tests.support.script import playing

pytestmark = pytest.mark.catch_up

each_way = pytest.mark.parametrize("in_place", [False, True], ids=["in copies", "in place"])


@pytest.fixture(autouse=True)
def no_copies(boarded: None) -> Iterator[None]:
    """No copies are left behind."""
    yield
    model = get_context("board").read_models["high_score"]
    shadow_tables.shadow_of(connection, model.models).drop()


def again(**options: Any) -> None:
    """Rebuild the high scores."""
    assert rebuild(*find_read_model("high_score"), **options).finished


def score(points: int) -> None:
    """Let Ann score, and bring the live read model up to date."""
    put(Scored(player="ann", points=points), stream="ann")
    update_projections(get_context("board"), only=["high_score"])


def points() -> int:
    """Return what readers see of Ann."""
    return HighScore.objects.get(player="ann").points


@each_way
def test_a_read_model_that_backed_off_goes_on_after_its_rebuild(in_place: bool) -> None:
    """The rebuild is the repair: nothing waits for the end of a back-off any more."""
    with playing(add=raising(ZeroDivisionError)):
        score(3)
    again(in_place=in_place)
    score(4)
    assert points() == 7


@each_way
def test_a_rebuilt_read_model_has_no_failure_left(in_place: bool) -> None:
    """The statistics show neither the error nor the failed attempts of before."""
    with playing(add=raising(ZeroDivisionError)):
        score(3)
    again(in_place=in_place)
    row = Checkpoint.objects.get(context="board", subscription="high_score")
    assert (row.failures, row.error, row.retry_at) == (0, "", None)


@contextmanager
def switched(switch: Callable[[], None]) -> Iterator[None]:
    """Switch the garbage collector, and leave it on."""
    switch()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("switch", [gc.enable, gc.disable], ids=["on", "off"])
def test_the_garbage_collector_is_as_it_was_before_a_rebuild(switch: Callable[[], None]) -> None:
    """A page is handled without it; the process goes on with it, unless it had none."""
    score(3)
    with switched(switch):
        before = gc.isenabled()
        again()
        assert gc.isenabled() is before
