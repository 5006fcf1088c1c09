"""Rebuilding a read model: the same as the live one, and no reader sees it half built."""

import json
import threading
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from outbox_inbox.conf import faults
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OutboxInboxError, RebuildFailed
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.operations.rebuilding import (
    REBUILD_SUFFIX,
    find_read_model,
    rebuild,
    shadow_tables,
)
from outbox_inbox.streams.projecting import update_projections
from outbox_inbox.streams.subscriptions import behind, follow
from tests.board.events import Annulled, Scored
from tests.board.models import HighScore, Member, Ranking, Sheet
from tests.support.movers import Broken, Crash, Worker, crash, put, striking
from tests.support.script import playing

BOARD = "board"
NAMES = ("high_score", "ranking", "teams")
PLAYERS = ("ann", "bob", "cid", "dan", "eve")

pytestmark = pytest.mark.catch_up


@pytest.fixture(autouse=True)
def small_pages(boarded, monkeypatch):
    """Small pages; and no copies afterwards."""
    monkeypatch.setattr("outbox_inbox.operations.rebuilding.pages._PAGE", 7)
    yield
    for name in NAMES:
        shadow_of(name).drop()


def shadow_of(name):
    """Return the copies of a read model's tables."""
    return shadow_tables.shadow_of(connection, get_context(BOARD).read_models[name].models)


def play_a_season(rounds=8, *, live=False):
    """Let every player score, and some of it be annulled; ``live``: update the read models."""
    for number in range(1, rounds + 1):
        for player in PLAYERS:
            put(Scored(player=player, points=number), stream=player)
        put(Annulled(player="bob", points=1), stream="bob")
    if live:
        update()


def update():
    """Bring the live read models up to date."""
    update_projections(get_context(BOARD))


def again(name="high_score", **options):
    """Rebuild a read model."""
    return rebuild(*find_read_model(name), **options)


def everything():
    """Return what all read models show."""
    return {
        "high_score": sorted(HighScore.objects.values_list("player", "points", "events")),
        "ranking": sorted(Ranking.objects.values_list("player", "points")),
        "teams": sorted(Member.objects.values_list("team__name", "player", "scores")),
    }


def execute(*statements):
    """Execute SQL statements."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def spoil():
    """Make the live read models wrong, so that a rebuild is seen."""
    HighScore.objects.update(points=-1)
    Ranking.objects.all().delete()
    Member.objects.update(scores=99)


# The result


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuilt_read_model_equals_the_live_one(name):
    """Whatever had become of it, it is what the stream says."""
    play_a_season(live=True)
    wanted = everything()[name]
    spoil()
    done = again(name)
    assert everything()[name] == wanted
    assert (done.finished, done.resumed, done.name) == (True, False, name)
    assert not shadow_of(name).exists()


def test_the_live_projection_goes_on_from_the_rebuilt_one():
    """What is recorded afterwards is added once, and ids are given out behind those that are taken."""
    play_a_season(live=True)
    again("high_score")
    again("teams")
    put(Scored(player="new", points=5), stream="new")
    put(Scored(player="ann", points=1), stream="ann")
    update()
    assert HighScore.objects.get(player="new").points == 5
    assert HighScore.objects.get(player="ann").points == 37
    assert Member.objects.get(player="new").scores == 1
    assert behind(get_context(BOARD), "high_score").events == 0


def test_a_read_model_that_never_was_live_is_built():
    """A projection that is deployed on a context with a history begins with a rebuild, or without."""
    play_a_season(2)
    again("ranking")
    assert dict(Ranking.objects.values_list("player", "points"))["bob"] == 1
    update()
    assert dict(Ranking.objects.values_list("player", "points"))["bob"] == 1


def test_the_first_new_row_after_a_rebuild_gets_an_id_of_its_own():
    """Where no row was ever inserted but by the rebuild, ids are given out behind those of its rows."""
    play_a_season(2)
    again("high_score")
    put(Scored(player="new", points=5), stream="new")
    update()
    assert HighScore.objects.get(player="new").points == 5


def test_what_happens_during_a_rebuild_is_in_it_once():
    """The live read model takes it in at once, the new one before it is shown."""
    play_a_season(live=True)

    def happen():
        put(Scored(player="late", points=3), stream="late")
        update()

    with striking("rebuild.before_swap", happen):
        again("high_score")
    update()
    assert HighScore.objects.get(player="late").points == 3
    assert everything()["high_score"] == sorted(
        HighScore.objects.values_list("player", "points", "events")
    )


def test_readers_see_the_old_or_the_new_rows_and_nothing_between():
    """A reader that adds up all the time never gets another sum than the right one."""
    play_a_season(live=True)
    wanted = sum(HighScore.objects.values_list("points", flat=True))
    seen, done = set(), threading.Event()

    def read():
        try:
            while not done.is_set():
                seen.add(sum(HighScore.objects.values_list("points", flat=True)))
        finally:
            connections.close_all()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            again("high_score")
    finally:
        done.set()
        reader.join()
    assert seen == {wanted}


# Being stopped


@pytest.mark.parametrize("point", sorted(faults.PROJECT_POINTS))
@pytest.mark.parametrize("name", ["high_score", "teams"])
def test_a_rebuild_that_is_killed_goes_on_where_it_was(point, name):
    """Killed at each point, and called again, it comes to the same end; until then nothing changes."""
    play_a_season(live=True)
    wanted, hit = everything(), 1 if point.startswith("rebuild") else 3
    with striking(point, crash, hit=hit), pytest.raises(Crash):
        again(name)
    assert everything() == wanted
    done = again(name)
    assert everything() == wanted
    assert done.resumed == (point != "rebuild.after_swap")


def test_a_rebuild_that_is_stopped_goes_on():
    """It says that it is not finished, and the next call takes in the rest only."""
    play_a_season(live=True)
    asked = iter([False, False, True])
    first = again(stop=lambda: next(asked))
    assert (first.events, first.finished) == (14, False)
    rest = again()
    assert (rest.resumed, rest.finished, rest.events) == (True, True, 48 - 14)


def test_a_restart_throws_away_what_was_there():
    """After a change of the projection nothing of the old code's work is used."""
    play_a_season()
    asked = iter([False, True])
    again(stop=lambda: next(asked))
    done = again(restart=True)
    assert (done.resumed, done.events) == (False, 48)


def test_copies_that_do_not_fit_any_more_are_made_anew():
    """A migration between two calls changes the table; what was copied before is of no use."""
    play_a_season()
    asked = iter([False, True])
    again(stop=lambda: next(asked))
    copy = shadow_of("high_score").copy_of("board_highscore")
    execute(f"ALTER TABLE {copy} ADD COLUMN more integer")
    assert not again().resumed


# A projection that fails


def refusing(player, points):
    """Return a part that fails on a score, alone or in a list."""

    def part(event):
        for each in event if isinstance(event, list) else [event]:
            if (each.player, each.points) == (player, points):
                raise Broken("no such score")

    return part


BAD = refusing("cid", 5)  # the 27th event: the sixth of a page of seven


def kept():
    """Return how many events the copies have taken in."""
    return 48 - behind(get_context(BOARD), "high_score" + REBUILD_SUFFIX).events


def test_an_event_on_which_a_projection_fails_costs_nothing_that_comes_before_it():
    """People see the old rows, the copies have all events before it, and the error says which it is."""
    play_a_season(live=True)
    wanted = everything()
    bad = StoredEvent.objects.get(stream="cid", version=5)
    with playing(add=BAD), pytest.raises(RebuildFailed, match="Broken: no such score") as failed:
        again()
    assert everything() == wanted
    assert kept() == StoredEvent.objects.filter(position__lt=bad.position).count()
    error = failed.value
    assert (error.position, error.type, error.message_id) == (
        bad.position,
        "board.Scored",
        bad.message_id,
    )
    assert f"event 5 of the stream 'cid', position {bad.position}" in str(error)
    assert str(bad.message_id) in str(error)
    assert isinstance(error.__cause__, Broken)


@pytest.mark.parametrize(("name", "part"), [("high_score", "add"), ("ranking", "rank")])
def test_a_rebuild_goes_on_once_the_projection_is_repaired(name, part):
    """It takes in the event it failed on, and what comes after it, and comes to the right end."""
    play_a_season(live=True)
    wanted = everything()[name]
    spoil()
    with playing(**{part: BAD}), pytest.raises(RebuildFailed):
        again(name)
    done = again(name)
    assert (done.resumed, done.finished) == (True, True)
    assert 0 < done.events < 48
    assert everything()[name] == wanted


def test_a_projection_that_still_fails_fails_on_the_same_event():
    """Called again without a repair, nothing is lost and nothing is taken in."""
    play_a_season()
    found = []
    for _ in range(2):
        with playing(add=BAD), pytest.raises(RebuildFailed) as failed:
            again()
        found.append((failed.value.position, kept()))
    assert found[0] == found[1]


def test_a_page_that_is_too_much_at_once_is_taken_in_pieces():
    """What only fails for many events does not count as failed, and pages are long again afterwards."""
    play_a_season(live=True)
    wanted, sizes = everything()["ranking"], []

    def too_many(events):
        sizes.append(len(events))
        if len(events) > 3 and any(each.points == 2 for each in events):
            raise Broken("too many")

    with playing(rank=too_many):
        assert again("ranking").finished
    assert everything()["ranking"] == wanted
    assert 3 in sizes
    assert (sizes[0], sizes[-2]) == (7, 7)


def test_a_failure_on_what_comes_at_the_end_is_told_as_well():
    """What is recorded just before the rows change places is taken in like the rest."""
    play_a_season(live=True)
    shown = everything()

    def happen():
        put(Scored(player="late", points=9), stream="late")

    with (
        playing(add=refusing("late", 9)),
        striking("rebuild.before_swap", happen),
        pytest.raises(RebuildFailed, match="event 1 of the stream 'late'"),
    ):
        again()
    assert everything() == shown
    assert again().finished
    assert HighScore.objects.get(player="late").points == 9


def test_in_place_a_failure_says_which_event_it_was():
    """And that what comes before it is taken in."""
    play_a_season(live=True)
    with playing(teams=BAD), pytest.raises(OutboxInboxError, match="event 5 of the stream 'cid'"):
        again("teams", in_place=True)
    assert Member.objects.get(player="cid").scores == 4


def test_the_command_names_the_event_and_says_how_to_go_on():
    """In one line, with exit code 1."""
    play_a_season()
    with (
        playing(add=BAD),
        pytest.raises(
            CommandError, match=r"event 5 of the stream 'cid', position .*--restart"
        ) as told,
    ):
        run("high_score")
    assert told.value.returncode == 1


# References


def test_a_reference_that_the_new_rows_break_is_refused_and_told():
    """Another table refers to a row that is not in the rebuilt table: nothing is changed."""
    play_a_season(1, live=True)
    HighScore.objects.create(pk=9_999, player="zoe", points=1)
    shown = everything()
    execute(
        "CREATE TABLE board_bet (id integer PRIMARY KEY, score_id bigint NOT NULL"
        " REFERENCES board_highscore (id) DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO board_bet VALUES (1, 9999)",
    )
    try:
        with pytest.raises(OutboxInboxError, match=r"other tables refer to .*board_highscore"):
            again()
        assert everything() == shown
        execute("DELETE FROM board_bet")
        assert again().resumed
        assert not HighScore.objects.filter(pk=9_999).exists()
    finally:
        execute("DROP TABLE board_bet")


@pytest.mark.postgres
def test_two_rebuilds_of_one_read_model_are_refused():
    """The error of the second one names the reason: another process."""
    play_a_season(1)
    with Worker() as other, follow(get_context(BOARD), "high_score" + REBUILD_SUFFIX):
        pass
    with (
        Worker() as other,
        follow(get_context(BOARD), "high_score" + REBUILD_SUFFIX),
        pytest.raises(OutboxInboxError, match="another process is rebuilding"),
    ):
        other.do(again)


# In place


def test_without_models_it_can_only_be_rebuilt_in_place():
    """The refusal says so; with ``in_place`` it is emptied, and filled again."""
    play_a_season(1, live=True)
    Sheet.objects.update(points=0)
    with pytest.raises(OutboxInboxError, match="--in-place"):
        again("sheets")
    assert set(Sheet.objects.values_list("points", flat=True)) == {0}
    assert again("sheets", in_place=True).finished
    assert list(Sheet.objects.values_list("points", flat=True)) == [1] * 5


def test_a_read_model_can_be_rebuilt_in_place_if_one_wants():
    """No copies are needed, and the result is the same."""
    play_a_season(live=True)
    wanted = everything()
    spoil()
    again("teams", in_place=True)
    assert everything()["teams"] == wanted["teams"]


# The command


def run(*arguments):
    """Run the command; return what it printed."""
    out = StringIO()
    call_command("rebuild_projection", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_the_command_says_what_it_did():
    """In a line for people, and as one document for scripts."""
    play_a_season(1)
    assert run("high_score").startswith("Rebuilt high_score of board from 6 events in ")
    found = json.loads(run("ranking", "--format", "json"))
    assert found.pop("seconds") >= 0
    assert found == {
        "context": BOARD,
        "projection": "ranking",
        "events": 6,
        "resumed": False,
        "finished": True,
    }
    assert not Checkpoint.objects.filter(subscription__endswith=REBUILD_SUFFIX).exists()


def test_an_unknown_name_is_refused_with_a_suggestion():
    """And so is a context that does not have it."""
    with pytest.raises(CommandError, match="did you mean 'ranking'"):
        run("rankings")
    with pytest.raises(CommandError, match="no projection 'ranking' in 'shop'"):
        run("ranking", "--context", "shop")


@contextmanager
def poor_role(*statements):
    """Be a role that may write to the tables, and create nothing; after some statements of the owner."""
    created = (
        "DROP ROLE IF EXISTS outbox_inbox_poor",
        "CREATE ROLE outbox_inbox_poor",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO outbox_inbox_poor",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO outbox_inbox_poor",
        "SET ROLE outbox_inbox_poor",
    )
    execute(*statements, *created)
    try:
        yield
    finally:
        execute("RESET ROLE", "DROP OWNED BY outbox_inbox_poor", "DROP ROLE outbox_inbox_poor")


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("DROP SCHEMA IF EXISTS {} CASCADE", "CREATE SCHEMA {} AUTHORIZATION"),
        ("CREATE SCHEMA IF NOT EXISTS {}", "GRANT USAGE, CREATE ON SCHEMA {}"),
    ],
)
def test_a_role_that_may_not_make_a_schema_is_told_what_to_do(before, wanted):
    """Or may not use one: the statement that the administrator or its owner has to run is in the error."""
    play_a_season(1)
    name = "outbox_inbox_rebuild"
    refused = pytest.raises(OutboxInboxError, match=wanted.format(name))
    with poor_role(before.format(name)), refused:
        again()
