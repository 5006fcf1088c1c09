"""Rows that refer to a read model refer to the same rows after a rebuild, or it is refused."""

import pytest
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.operations.rebuilding import find_read_model, kept_ids, rebuild, shadow_tables
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import Fan, HighScore, Member, Pass, Sheet, Team
from tests.support.movers import put
from tests.support.script import playing

pytestmark = pytest.mark.catch_up


@pytest.fixture(autouse=True)
def no_copies(boarded):
    """No copies are left behind."""
    yield
    for name in ("high_score", "teams", "sheets"):
        shadow_tables.shadow_of(connection, read_model(name).models).drop()


def read_model(name):
    """Return a read model of the board."""
    return get_context("board").read_models[name]


def again(name="high_score", **options):
    """Rebuild a read model."""
    return rebuild(*find_read_model(name), **options)


def play(*players):
    """Let players score, and bring the live read models up to date."""
    for player in players:
        put(Scored(player=player, points=1), stream=player)
    update_projections(get_context("board"))


def waste_ids(model, **values):
    """Use up some ids, as rolled back transactions and deleted rows do."""
    for _ in range(3):
        model.objects.create(**values).delete()


@pytest.fixture
def played():
    """Four players, whose rows have other ids than a rebuild would give them."""
    waste_ids(HighScore, player="unused")
    waste_ids(Team, name="no team")
    play("ann", "bob", "cid", "dan")
    HighScore.objects.filter(player="ann").update(points=-1)


def fan(**references):
    """Create a row that refers to a read model."""
    return Fan.objects.create(name="fan", **references)


def score(player):
    """Return the row of a player."""
    return HighScore.objects.get(player=player)


REFERENCES = {
    "foreign key": (lambda: fan(score=score("bob")), lambda fan: fan.score),
    "without constraint": (lambda: fan(unchecked=score("bob")), lambda fan: fan.unchecked),
    "generic": (lambda: fan(any=score("bob")), lambda fan: fan.any),
    "many to many": (
        lambda: (made := fan(), made.seen.add(score("bob")))[0],
        lambda fan: fan.seen.get(),
    ),
}


@pytest.mark.parametrize("kind", REFERENCES)
def test_a_reference_leads_to_the_same_row_after_a_rebuild(played, kind):
    """Whichever way a row refers to it, the rebuilt row of the player has the old id and new values."""
    create, follow = REFERENCES[kind]
    made = create()
    assert again().finished
    assert follow(Fan.objects.get(pk=made.pk)).player == "bob"
    assert score("ann").points == 1


def test_a_rebuilt_row_never_gets_the_id_of_another_one(played):
    """An id of which the row is gone is not given out again: a reference without constraint may hold it."""
    gone = HighScore.objects.create(player="zoe").pk
    made = fan(unchecked_id=gone)
    HighScore.objects.filter(player="dan").delete()
    taken = set(HighScore.objects.values_list("pk", flat=True))
    again()
    assert score("dan").pk > max(taken)
    play("eve")
    assert score("eve").pk > score("dan").pk
    assert not HighScore.objects.filter(pk=gone).exists()
    made.delete()


def test_rows_of_a_read_model_refer_to_each_other_by_the_ids_that_are_kept(played):
    """A rebuilt member belongs to the team with the same name, whose id another table knows."""
    made = fan(member=Member.objects.get(player="bob"))
    team = Team.objects.get(name="b").pk
    Team.objects.create(name="a team without members")
    again("teams")
    found = Fan.objects.get(pk=made.pk).member
    assert (found.player, found.team.name) == ("bob", "b")
    assert {each.player: each.team.name for each in Member.objects.all()} == {
        player: player[0] for player in ("ann", "bob", "cid", "dan")
    }
    assert Team.objects.get(name="b").pk in {team, found.team_id}


def test_a_row_is_recognised_by_a_reference_to_a_row_that_is_recognised(played, monkeypatch):
    """A member that is unique by its team and name keeps its id, and the team its own."""
    unique = kept_ids._unique

    def by_team(model):
        if model is not Member:
            return unique(model)
        return iter([tuple(map(Member._meta.get_field, ("team", "player")))])

    monkeypatch.setattr(kept_ids, "_unique", by_team)
    made = fan(member=Member.objects.get(player="bob"))
    teams = dict(Team.objects.values_list("name", "pk"))
    again("teams")
    assert Fan.objects.get(pk=made.pk).member.player == "bob"
    assert dict(Team.objects.values_list("name", "pk")) == teams


def test_an_id_that_the_model_makes_up_is_kept(played, monkeypatch):
    """A random UUID as primary key is as automatic as a number."""
    monkeypatch.setitem(read_model("high_score").__dict__, "models", (HighScore, Pass))
    passes = {name: Pass.objects.create(player=name) for name in ("ann", "bob")}
    made = fan(shown=passes["bob"])
    with playing(add=lambda event: Pass.objects.get_or_create(player=event.player)):
        again()
    assert Pass.objects.count() == 4
    assert Fan.objects.get(pk=made.pk).shown.player == "bob"


@pytest.fixture
def bets(played, monkeypatch):
    """Bets refer to sheets, which have no unique field, and whose projection now says its model."""
    monkeypatch.setitem(read_model("sheets").__dict__, "models", (Sheet,))
    waste_ids(Sheet, player="unused", points=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE board_bet (id integer PRIMARY KEY, sheet_id bigint NOT NULL"
            " REFERENCES board_sheet (id) DEFERRABLE INITIALLY DEFERRED)"
        )
        cursor.execute("INSERT INTO board_bet SELECT 1, MIN(id) FROM board_sheet")
        yield
        cursor.execute("DROP TABLE board_bet")


def test_a_rebuild_that_cannot_recognise_a_row_is_refused_before_it_begins(bets):
    """The error names the table that refers to it, and what the model lacks; nothing is changed."""
    before = list(Sheet.objects.values_list("pk", "player"))
    with pytest.raises(OutboxInboxError, match=r"board_bet.*Give Sheet a unique field"):
        again("sheets")
    assert list(Sheet.objects.values_list("pk", "player")) == before


def test_a_reference_that_comes_during_a_rebuild_is_seen_at_its_end(bets):
    """The rows were free to be replaced when the rebuild began, and are not when it ends."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM board_bet")
        assert not again("sheets", stop=lambda: True).finished
        cursor.execute("INSERT INTO board_bet SELECT 1, MIN(id) FROM board_sheet")
    with pytest.raises(OutboxInboxError, match="Give Sheet a unique field"):
        again("sheets")


def test_rows_without_references_need_no_unique_field(bets):
    """What no other table knows may have any id."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM board_bet")
    assert again("sheets").finished


@pytest.mark.parametrize("name", ["high_score", "teams"])
def test_in_place_rows_that_refer_to_it_are_not_deleted(played, name):
    """Emptying a read model would delete the rows that refer to it: it is refused."""
    fan(score=score("bob"), member=Member.objects.get(player="bob"))
    with pytest.raises(OutboxInboxError, match="without --in-place"):
        again(name, in_place=True)
    assert Fan.objects.count() == 1
