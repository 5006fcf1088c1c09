"""Projections: read models that are what the stream says, once, in order, whatever happens."""

from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest
from django.db import transaction

from outbox_inbox import record, signals
from outbox_inbox.contexts import ReadModel, get_context
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.operations import drain, read_model_stats
from outbox_inbox.operations.running import run
from outbox_inbox.operations.running.due import due_movers
from outbox_inbox.queues import outcome
from outbox_inbox.streams.projecting import update_projections
from outbox_inbox.streams.subscriptions import behind, follow
from outbox_inbox.testing import advance
from tests.board.events import Annulled, Cheered, Scored
from tests.board.models import HighScore, Member, Ranking, Sheet
from tests.support.clocks import put_back
from tests.support.handling import as_list
from tests.support.movers import Broken, Worker, crash, crashing, heard, put, striking, together
from tests.support.script import playing

pytestmark = [pytest.mark.catch_up, pytest.mark.usefixtures("boarded")]

BOARD = "board"


def score(player="ann", *points):
    """Record scores; negative ones are annulled."""
    put(*(event_of(player, each) for each in points), stream=player)


def event_of(player, points):
    """Return the event of some points."""
    if points < 0:
        return Annulled(player=player, points=-points)
    return Scored(player=player, points=points)


def update(**options):
    """Bring the read models of the board up to date."""
    return update_projections(get_context(BOARD), **options)


def shown(model=HighScore):
    """Return player -> points."""
    return dict(model.objects.order_by("player").values_list("player", "points"))


def checkpoint(name="high_score"):
    """Return the row of a subscription."""
    return Checkpoint.objects.get(context=BOARD, subscription=name)


# Taking in


def test_read_models_are_what_the_stream_says():
    """Functions, functions for lists and classes all take in what they are marked for."""
    score("ann", 3, 4, -2)
    score("bob", 1)
    put(Cheered(player="ann"), stream="ann")
    update()
    assert shown() == shown(Ranking) == {"ann": 5, "bob": 1}
    assert dict(HighScore.objects.values_list("player", "events")) == {"ann": 3, "bob": 1}
    assert dict(Member.objects.values_list("player", "scores")) == {"ann": 2, "bob": 1}
    assert sorted(Sheet.objects.values_list("points", flat=True)) == [1, 3, 4]


def test_an_event_is_taken_in_once():
    """What is new is added to what is there."""
    score("ann", 3)
    update()
    assert update().done == 0
    score("ann", 4)
    update()
    assert shown() == shown(Ranking) == {"ann": 7}


@pytest.mark.parametrize("model", [HighScore, Ranking])
def test_an_older_event_is_brought_to_its_newest_version(model):
    """A projection gets it through the upcaster of its context, one at a time or in a list."""
    score("ann", 5, -3)
    older = StoredEvent.objects.filter(version=2)
    older.update(schema_version=1, payload='{"minus":3,"player":"ann"}')
    update()
    assert shown(model) == {"ann": 2}


def test_events_without_a_stream_are_not_in_the_stream():
    """In a context with an outbox only what is appended to a stream can be read from one."""
    put(Scored(player="ann", points=1))
    update()
    assert shown() == {}


def test_a_limit_ends_the_call():
    """It counts events of all read models together."""
    score("ann", 1, 2, 3, 4, 5)
    assert update(limit=2).done == 2
    assert shown() == {"ann": 3}
    update()
    assert shown() == shown(Ranking) == {"ann": 15}


def test_a_page_ends_when_the_batch_time_is_over(settings):
    """The rest of the page is taken in by the next transaction."""
    settings.OUTBOX_INBOX = {"BATCH_TIME": timedelta(microseconds=1)}
    score("ann", 1, 2, 3)
    told = []
    update(progress=told.append)
    assert shown() == {"ann": 6}
    assert told[:3] == [1, 1, 1]


def test_all_functions_get_an_event_when_the_batch_time_is_over_between_them(settings):
    """A page never ends between two functions of one event: the second would not get it any more."""
    settings.OUTBOX_INBOX = {"BATCH_TIME": timedelta(microseconds=1)}
    context = get_context(BOARD)
    add, _ = context.read_models["high_score"].consumers
    twice = ReadModel("high_score", (add, replace(add)), BOARD)
    score("ann", 3, 4)
    update_projections(replace(context, read_models={"high_score": twice}))
    assert shown() == {"ann": 14}


def test_an_envelope_is_given_to_who_takes_it():
    """It is that of the record."""
    seen = []
    (envelope,) = put(Annulled(player="ann", points=1), stream="ann", headers={"by": "me"})
    with playing(take_away=lambda event, found: seen.append(found)):
        update()
    assert seen == [envelope]


def test_draining_everything_brings_read_models_up_to_date():
    """`operations.drain`, and with it ``testing.drain``, has them as its last step."""
    score("ann", 3)
    drained = {each.context: each for each in drain()}
    assert shown() == {"ann": 3}
    assert drained[BOARD].projected.done >= 3


def test_a_worker_sees_that_a_read_model_is_behind():
    """The look around names it when there is something new, and not when it rests."""

    def works():
        return "project" in due_movers("default", [BOARD])[BOARD]

    update()
    assert not works()
    score("ann", 3)
    assert works()
    update()
    assert not works()


def test_workers_at_once_take_each_event_in_once():
    """Each read model has one of them at a time."""
    for player in ("ann", "bob", "cid"):
        score(player, *range(1, 21))
    together(*[update] * 4)
    update()
    assert shown() == shown(Ranking) == dict.fromkeys(["ann", "bob", "cid"], 210)


@pytest.mark.postgres
def test_what_commits_late_is_taken_in_late():
    """A transaction with an early position holds up no other, and is not missed."""
    with Worker() as slow:
        with slow.transaction():
            slow.do(record, Scored(player="slow", points=1), stream="slow")
            score("ann", 3)
            update()
            assert shown() == {"ann": 3}
        update()
    assert shown() == shown(Ranking) == {"ann": 3, "slow": 1}


# Failing


def failing_on(points):
    """Return a part that fails on an event with these points."""

    def part(event, *_):
        if any(each.points == points for each in as_list(event)):
            raise Broken(f"not {points}")

    return part


def test_a_failing_event_is_never_passed_over():
    """What comes before it is kept, and the read model rests, with its place; the others go on."""
    score("ann", 1, 2, 3, 4)
    with playing(add=failing_on(3)):
        assert update().failed == 1
    assert (shown(), shown(Ranking)) == ({"ann": 3}, {"ann": 10})
    found = checkpoint()
    (event,) = StoredEvent.objects.filter(stream="ann", version=3)
    place = f"event 3 of the stream 'ann', position {event.position}, board.Scored"
    assert (found.failures, found.error) == (1, f"Broken: not 3 ({place})")
    assert behind(get_context(BOARD), "high_score").events == 2


def test_a_read_model_that_rests_is_left_alone_until_its_time():
    """Each failure doubles the wait; success ends it, and nothing was lost."""
    score("ann", 1, 3)
    with playing(add=failing_on(3)):
        update()
        first = checkpoint().retry_at
        update()
        assert checkpoint().failures == 1
        advance(timedelta(hours=1))
        update()
    assert checkpoint().failures == 2
    assert checkpoint().retry_at > first
    advance(timedelta(hours=1))
    update()
    assert shown() == {"ann": 4}
    assert (checkpoint().failures, checkpoint().error, checkpoint().retry_at) == (0, "", None)


@pytest.mark.parametrize("back", [{"minutes": 5}, {"hours": 6}], ids=["minutes", "hours"])
def test_a_read_model_rests_no_longer_when_the_clock_is_put_back(back):
    """Its pause was one of a second; a runner sees so, too."""
    score("ann", 1, 3)
    with playing(add=failing_on(3)):
        update()
    assert "project" not in due_movers("default", [BOARD])[BOARD]
    put_back(**back)
    assert "project" in due_movers("default", [BOARD])[BOARD]
    (found,) = [each for each in read_model_stats() if each.name == "high_score"]
    assert (found.state, found.until) == ("backing off", None)
    update()
    assert shown() == {"ann": 4}


def test_a_failure_is_announced():
    """With the projection's name, the error and how long it rests."""
    score("ann", 3)
    with heard(signals.projection_failed) as told, playing(add=failing_on(3)):
        update()
    found = [(each["context"], each["projection"], each["error"]) for each in told]
    assert found == [(BOARD, "high_score", "Broken: not 3")]


def test_a_payload_that_cannot_be_read_says_where_it_stands():
    """The read model rests before it, with the stream and the version in the error."""
    score("ann", 1, 2)
    StoredEvent.objects.filter(version=2).update(payload='{"player": 7}')
    update()
    assert shown() == {"ann": 1}
    assert checkpoint().error.startswith("UnreadableMessage: the data does not fit Scored")
    assert "(event 2 of the stream 'ann', position " in checkpoint().error


def test_a_projection_that_rolls_back_has_failed():
    """`set_rollback(True)` ends a transaction without an error; the event is not lost for it."""
    score("ann", 3)
    with playing(add=lambda event: transaction.set_rollback(True)):
        assert update().failed == 1
    assert checkpoint().error.startswith("HandlerError: the projection high_score left")
    advance(timedelta(hours=1))
    update()
    assert shown() == {"ann": 3}


def test_a_projection_decides_nothing():
    """`record()` is refused within it, with the reason."""
    score("ann", 3)
    with playing(add=lambda event: record(Cheered(player="ann"))):
        update()
    assert "a read model decides nothing" in checkpoint().error


@pytest.mark.parametrize(
    "point",
    ["project.after_read", "project.before_apply", "project.after_apply", "project.before_commit"],
)
def test_a_crash_changes_nothing(point):
    """The transaction that was under way is undone, and done again as a whole."""
    score("ann", 1, 2, 3)
    with striking(point, crash, hit=2), crashing():
        update()
    update()
    assert shown() == shown(Ranking) == {"ann": 6}
    assert Member.objects.get().scores == 3


def test_a_paused_read_model_waits(settings):
    """An operator's switch, as for the queues."""
    score("ann", 3)
    with follow(get_context(BOARD), "high_score"):
        pass
    Checkpoint.objects.filter(subscription="high_score").update(paused=True)
    update()
    assert (shown(), shown(Ranking)) == ({}, {"ann": 3})
    Checkpoint.objects.update(paused=False)
    update()
    assert shown() == {"ann": 3}


def test_a_read_model_leaves_the_process_to_others_after_a_turn(settings, monkeypatch):
    """A process that calls again gives each read model one turn; a call of its own goes to the end."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 2}
    times = count()
    monkeypatch.setattr(outcome, "monotonic", lambda: next(times) * outcome.TURN)
    score("ann", *range(1, 9))
    assert update(only=["high_score"], seen=[]).done == 2
    assert update(only=["high_score"]).done == 6


def test_a_running_process_gives_a_read_model_one_turn_at_a_time(settings, monkeypatch):
    """The movers beside it do not wait until it has caught up."""
    settings.OUTBOX_INBOX = {"BATCH_SIZE": 2}
    times = count()
    monkeypatch.setattr(outcome, "monotonic", lambda: next(times) * outcome.TURN)
    score("ann", *range(1, 9))
    pauses, turns = [], []
    run(
        [get_context(BOARD)],
        stop=lambda: bool(pauses),
        wait=pauses.append,
        report=lambda turn: turns.append(turn.mover),
    )
    assert shown() == {"ann": 36}
    assert turns.count("project") >= 4
