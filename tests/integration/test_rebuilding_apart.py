"""The copies of a rebuild belong to one read model and one checkpoint, and to nothing else."""

from contextlib import contextmanager

import pytest
from django.apps import apps
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OutboxInboxError
from outbox_inbox.models import Checkpoint, table
from outbox_inbox.operations.rebuilding import (
    REBUILD_SUFFIX,
    find_read_model,
    rebuild,
    shadow_tables,
)
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore
from tests.support.movers import put, striking

pytestmark = pytest.mark.catch_up


@pytest.fixture(autouse=True)
def small_pages(boarded, monkeypatch):
    """Pages of two events; and no copies afterwards."""
    monkeypatch.setattr("outbox_inbox.operations.rebuilding.pages._PAGE", 2)
    yield
    copies().drop()


def copies():
    """Return the copies of the high scores."""
    model = get_context("board").read_models["high_score"]
    return shadow_tables.shadow_of(connection, model.models)


def again(**options):
    """Rebuild the high scores."""
    return rebuild(*find_read_model("high_score"), **options)


def begin():
    """Begin a rebuild, and stop it after its first page."""
    asked = iter([False, True])
    assert not again(stop=lambda: next(asked)).finished


def play(*players):
    """Let players score, and bring the live read model up to date."""
    for player in players:
        put(Scored(player=player, points=1), stream=player)
    update_projections(get_context("board"))


def shown():
    """Return what readers see."""
    return sorted(HighScore.objects.values_list("player", "points"))


def execute(*statements):
    """Execute SQL statements."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def within(path):
    """Have another search path, as a tenant of the same database has it."""
    execute(f"SET search_path = {path}")
    try:
        yield
    finally:
        execute("SET search_path = DEFAULT")


@pytest.fixture
def tenants():
    """Two schemas, ``one`` and ``"Two-b"``, each with all tables."""
    names = ("one", '"Two-b"')
    for name in names:
        execute(f"CREATE SCHEMA {name}")
        for label in ("outbox_inbox", "board"):
            for model in apps.get_app_config(label).get_models():
                execute(f"CREATE TABLE {name}.{table(model)} (LIKE {table(model)} INCLUDING ALL)")
    yield names
    for name in names:
        with within(name):
            copies().drop()
            schema = copies().schema
        execute(f'DROP SCHEMA {name} CASCADE; DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@pytest.mark.postgres
def test_a_rebuild_in_one_schema_takes_nothing_from_that_of_another(tenants):
    """Begun in one schema and stopped, a rebuild of the other schema begins with its own first event."""
    for name in tenants:
        with within(name):
            play(*(f"{name}-{number}" for number in range(3)))
    one, two = tenants
    with within(one):
        begin()
    with within(two):
        before = shown()
        assert not again().resumed
        assert shown() == before
    with within(one):
        assert again().resumed
        assert [player for player, _ in shown()] == ["one-0", "one-1", "one-2"]


@pytest.mark.postgres
def test_copies_are_not_taken_by_a_checkpoint_that_says_nothing_of_them(tenants):
    """Tables of one schema, checkpoints of two: the copies are of use to the checkpoint that filled them."""
    one, two = tenants
    play("ann", "bob", "cid")
    wanted = shown()
    execute(f"DROP TABLE {one}.board_highscore, {two}.board_highscore")
    for name in tenants:
        execute(
            f"INSERT INTO {name}.outbox_inbox_storedevent SELECT * FROM outbox_inbox_storedevent"
        )
    with within(f"{one}, public"):
        begin()
    with within(f"{two}, public"):
        assert not again().resumed
    assert shown() == wanted


def test_copies_without_their_checkpoint_are_made_anew():
    """An operator deleted the checkpoint of a rebuild: what its copies hold is not handled twice."""
    play("ann", "bob", "cid")
    wanted = shown()
    begin()
    Checkpoint.objects.filter(subscription__endswith=REBUILD_SUFFIX).delete()
    assert not again().resumed
    assert shown() == wanted


@pytest.mark.parametrize("ended", [again, lambda: again(restart=True), lambda: copies().drop()])
def test_a_rebuild_whose_copies_are_gone_leaves_the_live_rows_alone(ended):
    """Another process finished the rebuild between two pages: the first one says so, and stops."""
    play("ann", "bob", "cid", "dan")
    wanted = shown()
    with (
        striking("rebuild.before_swap", ended),
        pytest.raises(OutboxInboxError, match="another process has finished the rebuild"),
    ):
        again()
    assert shown() == wanted
    assert again().finished
    assert shown() == wanted
