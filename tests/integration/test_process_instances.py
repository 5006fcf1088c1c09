"""Instances of processes: each has a row of its own, and nothing happens to it after its end."""

import json

import pytest

from outbox_inbox import record
from outbox_inbox.models import OutboxMessage, ProcessState
from outbox_inbox.testing import drain
from tests.support.deals import begin, instance, log, move
from tests.support.movers import put
from tests.support.rows import process
from tests.support.script import playing
from tests.yard.events import Expired, Moved, Nudged
from tests.yard.processes import Deal

pytestmark = pytest.mark.usefixtures("yarded")


def test_a_start_that_finishes_the_process_leaves_no_step_for_early_events() -> None:
    """The end is the end: what came before the start is not handled after it."""
    move()
    with playing(begin=lambda deal, _event: deal.finish()):
        begin()
    assert log() == ["begun 0"]


def test_a_process_that_finished_keeps_no_early_events() -> None:
    """No later step would handle them, so they do not stay in its row."""
    move()
    with playing(begin=lambda deal, _event: deal.finish()):
        begin()
    assert instance().early == "[]"


def test_an_early_event_that_finishes_the_process_ends_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is handled before the event of the step, which finds the process finished."""
    move("hall")
    routes = {event: each for event, each in Deal.routes.items() if event is not Moved}
    with monkeypatch.context() as without:
        without.setattr(Deal, "routes", routes)
        begin()
    with playing(move=lambda deal, _event: deal.finish()):
        put(Nudged(order="a"))
        drain()
    assert log() == ["begun 0", "moved hall"]


def test_an_early_event_keeps_its_hops() -> None:
    """Waiting for the start does not begin a new chain: a loop through it ends at MAX_HOPS."""
    move()
    row = instance()
    (kept,) = json.loads(row.early)
    row.early = json.dumps([{**kept, "hops": 5}])
    row.save()
    with playing(move=lambda *_: record(Expired(order="a", name="by move"))):
        begin()
    assert OutboxMessage.objects.get(type="yard.Expired").hops == 6


@pytest.mark.parametrize(
    "other", [{"context": "shop"}, {"process": "other"}], ids=["context", "name"]
)
def test_an_instance_is_not_taken_for_one_of_another_process(other: dict[str, str]) -> None:
    """Two contexts may have a process of one name, and two processes an instance of one key."""
    taken = process(**{"context": "yard", "process": "deal", "key": "a", **other}, time_outs="{}")
    begin()
    assert ProcessState.objects.get(pk=taken.pk).state == taken.state
    assert json.loads(ProcessState.objects.exclude(pk=taken.pk).get().state)["log"] == ["begun 0"]
