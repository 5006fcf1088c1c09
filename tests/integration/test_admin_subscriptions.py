"""The readers of streams in the admin: which are behind, which back off and why, and the switch."""

import re
from collections import Counter
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from outbox_inbox import operations, record
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import ForeignCheckpoint
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Cheered, Scored
from tests.board.models import HighScore
from tests.support.pages import SCRIPT, act, history, list_page, listed, messages_of, page, path
from tests.support.script import playing

pytestmark = [pytest.mark.catch_up, pytest.mark.django_db]
MODEL = "checkpoint"


@pytest.fixture(autouse=True)
def board(board_context, db):
    """The context with read models, and one event that all of them have."""
    score(1)
    update_projections(get_context("board"))


def score(points):
    """Record an event."""
    with transaction.atomic():
        record(Scored(player="ann", points=points), stream="ann")


def checkpoint(name="high_score"):
    """Return the row of a read model."""
    return Checkpoint.objects.get(subscription=name)


def test_the_list_shows_who_is_behind(admin_client):
    """With the number of events that are still to be taken in."""
    score(2)
    found = list_page(admin_client, MODEL)
    assert "board high_score" in found
    assert '<td class="field-lag">1</td>' in found


def test_a_failure_is_shown_as_text(admin_client):
    """Also one whose message is hostile."""

    def fail(event):
        raise ValueError(SCRIPT)

    score(2)
    with playing(add=fail):
        update_projections(get_context("board"))
    for found in (list_page(admin_client, MODEL), page(admin_client, checkpoint())):
        assert SCRIPT not in found
        assert "&lt;script&gt;" in found


def test_a_read_model_is_paused_and_resumed(admin_client):
    """Meanwhile it stays as it is; both are in its history."""
    assert messages_of(act(admin_client, "pause", checkpoint())) == ["Paused 1 checkpoint."]
    score(2)
    update_projections(get_context("board"))
    assert HighScore.objects.get().points == 1
    assert messages_of(act(admin_client, "resume", checkpoint()))[-1] == "Resumed 1 checkpoint."
    update_projections(get_context("board"))
    assert HighScore.objects.get().points == 3
    assert history(checkpoint()) == ["admin: Paused.", "admin: Resumed."]


def test_a_read_model_that_rests_is_woken(admin_client):
    """Resume ends the back-off of a failure."""
    Checkpoint.objects.update(retry_at=timezone.now() + timedelta(hours=1), failures=3, error="no")
    act(admin_client, "resume", checkpoint())
    assert (checkpoint().retry_at, checkpoint().failures, checkpoint().error) == (None, 0, "")


def test_a_viewer_cannot_pause(staff):
    """A request made by hand does not get around the permission."""
    act(staff(), "pause", checkpoint())
    assert not checkpoint().paused


def test_a_checkpoint_of_a_context_that_is_gone_is_shown(admin_client):
    """How far it is behind is unknown."""
    Checkpoint.objects.create(context="gone", subscription="board")
    assert '<td class="field-lag">?</td>' in list_page(admin_client, MODEL)


def test_a_lag_that_cannot_be_counted_leaves_the_page_as_it_is(admin_client, monkeypatch):
    """The database serves no streams, or the checkpoint is that of another one."""

    def refuse(*_, **__):
        raise ForeignCheckpoint("copied")

    monkeypatch.setattr("outbox_inbox.admin.subscriptions.behind", refuse)
    score(1)
    update_projections(get_context("board"))
    assert '<td class="field-lag">?</td>' in list_page(admin_client, MODEL)


def test_what_is_no_read_model_is_not_switched(admin_client):
    """The relay is paused by its partition; the page reports that it is not a read model."""
    row = Checkpoint.objects.create(context="board", subscription="(relay)")
    (said,) = messages_of(act(admin_client, "pause", row))
    assert "has no read model '(relay)'" in said
    row.refresh_from_db()
    assert not row.paused


def fail(event):
    """Fail on an event."""
    raise ValueError("no such player")


def test_a_failure_leads_to_the_event_and_its_stream(admin_client):
    """The reason leads an operator to the event that was recorded."""
    score(2)
    with playing(add=fail):
        update_projections(get_context("board"))
    event = StoredEvent.objects.get(stream="ann", version=2)
    found = page(admin_client, checkpoint())
    assert path(event) in found
    assert "stream__exact=ann" in found
    assert "1 failure<" in found


@pytest.mark.parametrize("error", ["no", "x position 99999, gone)", f"{SCRIPT} position 1, x)"])
def test_a_reason_that_names_no_event_leads_nowhere(admin_client, error):
    """An error is untrusted text: a position in it is looked up, and may not exist."""
    Checkpoint.objects.filter(subscription="high_score").update(error=error, failures=1)
    StoredEvent.objects.update(context="elsewhere")
    found = page(admin_client, checkpoint())
    assert "/storedevent/" not in found.split('field-failed_event"')[1].split("</fieldset>")[0]


def test_who_has_failed_is_backing_off_until_it_succeeds(admin_client):
    """A time to try again that has passed is shown as well: then no worker is at work."""
    Checkpoint.objects.filter(subscription="high_score").update(
        retry_at=timezone.now() - timedelta(hours=2, minutes=1), failures=3, error="no"
    )
    found = list_page(admin_client, MODEL)
    assert all(each in found for each in ("backing off", "2 h ago", "3 failures"))


@pytest.mark.parametrize(
    ("standing", "names"),
    [("paused", {"ranking"}), ("resting", {"high_score"}), ("working", {"teams", "sheets"})],
)
def test_checkpoints_are_filtered_by_state(admin_client, standing, names):
    """Paused, backing off, or working."""
    Checkpoint.objects.filter(subscription="ranking").update(paused=True)
    Checkpoint.objects.filter(subscription="high_score").update(retry_at=timezone.now())
    found = listed(admin_client, MODEL, standing=standing)
    assert {row.subscription for row in Checkpoint.objects.filter(pk__in=found)} == names


def lags(shown):
    """Return what the list says how far each subscription is behind."""
    found = re.findall(r'field-name"><a [^>]*>(.*?)</a>.*?field-lag">([^<]*)<', shown)
    return {name.replace("<wbr>", ""): lag for name, lag in found}


def test_readers_are_told_apart(admin_client):
    """A rebuild that was stopped is not finished, and counts the events of its read model only."""
    with transaction.atomic():
        record(Cheered(player="ann"), Scored(player="ann", points=2), stream="ann")
    Checkpoint.objects.create(context="board", subscription="high_score (rebuild)")
    Checkpoint.objects.create(context="board", subscription="(relay)")
    Checkpoint.objects.create(context="board", subscription="old_board")
    found = list_page(admin_client, MODEL)
    readers = re.findall(r'field-reader">([^<]*)<', found)
    assert Counter(readers) == {"read model": 4, "rebuild": 1, "relay": 1, "not declared": 1}
    assert "unfinished" in found
    assert lags(found)["board high_score (rebuild)"] == "2"  # of three events one is a cheer


def test_only_a_read_model_has_a_switch(admin_client):
    """The pages of the relay and of a rebuild have no button that could not do anything."""
    others = [
        Checkpoint.objects.create(context="board", subscription=name)
        for name in ("high_score (rebuild)", "(relay)", "old_board")
    ]
    assert [">Pause<" in page(admin_client, row) for row in others] == [False] * 3
    assert ">Pause<" in page(admin_client, checkpoint())


def test_the_relay_is_as_far_behind_as_it_has_to_send(admin_client, settings):
    """In a context with an outbox what the outbox got is not the relay's business any more."""
    Checkpoint.objects.create(context="board", subscription="(relay)")
    score(2)
    assert lags(list_page(admin_client, MODEL))["board (relay)"] == "0"
    settings.OUTBOX_INBOX = {"CONTEXTS": {"board": {"source": "stream"}}}
    operations.repartition([get_context("board")])
    score(3)
    assert lags(list_page(admin_client, MODEL))["board (relay)"] == "1"
