"""A context whose rows were copied one by one handles each event once, or says that it cannot know."""

import pytest
from django.core.management import call_command
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ForeignCheckpoint, OutboxInboxError
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.operations import rebase
from outbox_inbox.operations.rebuilding import find_read_model, rebuild
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Scored
from tests.board.models import HighScore, Member, Ranking, Sheet, Team
from tests.support.movers import put

pytestmark = [pytest.mark.catch_up, pytest.mark.usefixtures("boarded")]

READ_MODELS = ("high_score", "ranking", "teams")


def score(times, player="ann"):
    """Record some scores of a player."""
    for _ in range(times):
        put(Scored(player=player, points=10), stream=player)


def update(limit=None):
    """Bring the read models up to date, or handle some events."""
    update_projections(get_context("board"), limit=limit, only=READ_MODELS)


def points():
    """Return what the read model shows of the player."""
    return HighScore.objects.get(player="ann").points


def copy_rows(path):
    """Dump the rows of the contexts with dumpdata, remove them, and load them again."""
    dump = str(path / "rows.json")
    call_command("dumpdata", "outbox_inbox", "board", output=dump, verbosity=0)
    for model in (StoredEvent, Checkpoint, HighScore, Ranking, Member, Team, Sheet):
        model.objects.all().delete()
    call_command("loaddata", dump, verbosity=0)


@pytest.mark.sqlite
def test_a_copy_of_the_rows_goes_on_where_positions_count(tmp_path):
    """On SQLite loaddata keeps the positions, so nothing is handled twice or lost."""
    score(5)
    update()
    score(2)
    copy_rows(tmp_path)
    update()
    assert points() == 70


@pytest.mark.postgres
@pytest.mark.parametrize("handled", [None, 3])
def test_a_copy_of_the_rows_is_refused_where_transactions_count(tmp_path, handled):
    """Loaded rows have the transaction of loaddata: the read model would count twice without a word."""
    score(5)
    update(handled)
    before = points()
    copy_rows(tmp_path)
    with pytest.raises(ForeignCheckpoint, match=r"copied one by one .*rebuild_projection"):
        update()
    with pytest.raises(OutboxInboxError, match="it is not known which events 'high_score'"):
        rebase()
    assert points() == before


@pytest.mark.postgres
def test_a_copy_of_the_rows_works_after_the_read_models_are_rebuilt(tmp_path):
    """As the refusal says; afterwards each event is handled once."""
    score(5)
    update()
    copy_rows(tmp_path)
    rebuild(*find_read_model("high_score"))
    rebuild(*find_read_model("teams"), in_place=True)
    rebuild(*find_read_model("ranking"))
    score(1)
    update()
    assert points() == 60
    assert Member.objects.get(player="ann").scores == 6


@pytest.mark.postgres
def test_a_copy_of_rows_of_another_server_is_not_rebased(tmp_path):
    """Its checkpoints name the other server, and rebasing them would lose what they had not handled."""
    score(5)
    update()
    score(2)
    copy_rows(tmp_path)
    Checkpoint.objects.update(cluster="7", done="999999999:999999999:")
    with pytest.raises(OutboxInboxError, match="it is not known which events"):
        rebase()


@pytest.mark.postgres
def test_rows_of_sqlite_are_rebased_by_their_positions():
    """A checkpoint of SQLite has no snapshot; what it had not handled is handled afterwards."""
    score(5)
    update()
    last = StoredEvent.objects.latest("position").position
    score(2)
    Checkpoint.objects.update(done="", target=None, position=last, last=0, size=0, cluster="")
    connection.close()  # as a process that starts on the copied rows
    with pytest.raises(ForeignCheckpoint, match="rebase_checkpoints"):
        update()
    assert {each.unhandled for each in rebase()} == {2}
    update()
    assert points() == 70


@pytest.mark.sqlite
def test_rows_of_postgresql_are_refused_on_sqlite_until_they_are_rebuilt():
    """A snapshot says nothing where positions count."""
    score(5)
    update()
    Checkpoint.objects.update(done="730:730:", position=0, last=3, size=729, cluster="7")
    with pytest.raises(ForeignCheckpoint, match="copied one by one"):
        update()
    for name in READ_MODELS:
        rebuild(*find_read_model(name))
    score(1)
    update()
    assert points() == 60


@pytest.mark.postgres
def test_the_anchor_of_a_checkpoint_is_an_event_that_it_has_handled():
    """A checkpoint that has caught up names the last event of its set, and its transaction."""
    score(3)
    update()
    row = Checkpoint.objects.get(subscription="high_score")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT xid::text::bigint FROM outbox_inbox_storedevent WHERE position = %s", [row.last]
        )
        assert cursor.fetchone() == (row.size,)
