"""The readers of streams in the admin: which are behind, which back off and why, and the switch."""

import re
from collections import Counter
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from outbox_inbox import record
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Checkpoint, StoredEvent
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Cheered, Scored
from tests.board.models import HighScore
from tests.support.script import playing

pytestmark = [pytest.mark.catch_up, pytest.mark.django_db]
LIST = "admin:outbox_inbox_checkpoint_changelist"
HOSTILE = "<script>alert('owned')</script>"


@pytest.fixture(autouse=True)
def board(settings, db):
    """The context with read models, and one event that all of them have."""
    settings.INSTALLED_APPS = [
        "tests.board.apps.BoardConfig" if name == "tests.board.apps.Tables" else name
        for name in settings.INSTALLED_APPS
    ]
    score(1)
    update_projections(get_context("board"))


def score(points):
    """Record an event."""
    with transaction.atomic():
        record(Scored(player="ann", points=points), stream="ann")


def checkpoint(name="high_score"):
    """Return the row of a read model."""
    return Checkpoint.objects.get(subscription=name)


def act(client, action, *chosen):
    """Choose rows on the list and run an action; return what the page says."""
    keys = [row.pk for row in chosen]
    response = client.post(reverse(LIST), {"action": action, "_selected_action": keys})
    return [str(message) for message in get_messages(response.wsgi_request)]


def test_the_list_shows_who_is_behind(admin_client):
    """With the number of events that are still to be taken in."""
    score(2)
    page = admin_client.get(reverse(LIST)).text
    assert "board high_score" in page
    assert '<td class="field-lag">1</td>' in page


def test_a_failure_is_shown_as_text(admin_client):
    """Also one whose message is hostile."""

    def fail(event):
        raise ValueError(HOSTILE)

    score(2)
    with playing(add=fail):
        update_projections(get_context("board"))
    row = checkpoint()
    pages = [
        admin_client.get(reverse(LIST)).text,
        admin_client.get(reverse("admin:outbox_inbox_checkpoint_change", args=[row.pk])).text,
    ]
    for page in pages:
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page


def test_a_read_model_is_paused_and_resumed(admin_client):
    """Meanwhile it stays as it is; both are in its history."""
    assert act(admin_client, "pause", checkpoint()) == ["Paused 1 checkpoint."]
    score(2)
    update_projections(get_context("board"))
    assert HighScore.objects.get().points == 1
    assert act(admin_client, "resume", checkpoint())[-1] == "Resumed 1 checkpoint."
    update_projections(get_context("board"))
    assert HighScore.objects.get().points == 3
    entries = LogEntry.objects.filter(object_id=str(checkpoint().pk)).order_by("pk")
    assert [each.get_change_message() for each in entries] == ["Paused.", "Resumed."]


def test_a_read_model_that_rests_is_woken(admin_client):
    """Resume ends the back-off of a failure."""
    Checkpoint.objects.update(retry_at=timezone.now() + timedelta(hours=1), failures=3, error="no")
    act(admin_client, "resume", checkpoint())
    assert (checkpoint().retry_at, checkpoint().failures, checkpoint().error) == (None, 0, "")


def test_a_viewer_cannot_pause(django_user_model):
    """A request made by hand does not get around the permission."""
    django_user_model.objects.create_user("olga", password="olga", is_staff=True)
    client = Client()
    client.login(username="olga", password="olga")
    act(client, "pause", checkpoint())
    assert not checkpoint().paused


def test_a_checkpoint_of_a_context_that_is_gone_is_shown(admin_client):
    """How far it is behind is unknown."""
    Checkpoint.objects.create(context="gone", subscription="board")
    assert '<td class="field-lag">?</td>' in admin_client.get(reverse(LIST)).text


def test_what_is_no_read_model_is_not_switched(admin_client):
    """The relay is paused by its partition; the page reports that it is not a read model."""
    row = Checkpoint.objects.create(context="board", subscription="(relay)")
    (said,) = act(admin_client, "pause", row)
    assert "has no read model '(relay)'" in said
    row.refresh_from_db()
    assert not row.paused


def inspected(client, row):
    """Return the page of a checkpoint."""
    return client.get(reverse("admin:outbox_inbox_checkpoint_change", args=[row.pk])).text


def fail(event):
    """Fail on an event."""
    raise ValueError("no such player")


def test_a_failure_leads_to_the_event_and_its_stream(admin_client):
    """The reason leads an operator to the event that was recorded."""
    score(2)
    with playing(add=fail):
        update_projections(get_context("board"))
    event = StoredEvent.objects.get(stream="ann", version=2)
    page = inspected(admin_client, checkpoint())
    assert reverse("admin:outbox_inbox_storedevent_change", args=[event.pk]) in page
    assert "stream__exact=ann" in page
    assert "1 failure<" in page


@pytest.mark.parametrize("error", ["no", "x position 99999, gone)", f"{HOSTILE} position 1, x)"])
def test_a_reason_that_names_no_event_leads_nowhere(admin_client, error):
    """An error is untrusted text: a position in it is looked up, and may not exist."""
    Checkpoint.objects.filter(subscription="high_score").update(error=error, failures=1)
    StoredEvent.objects.update(context="elsewhere")
    page = inspected(admin_client, checkpoint())
    assert "/storedevent/" not in page.split('field-failed_event"')[1].split("</fieldset>")[0]


def test_who_has_failed_is_backing_off_until_it_succeeds(admin_client):
    """A time to try again that has passed is shown as well: then no worker is at work."""
    Checkpoint.objects.filter(subscription="high_score").update(
        retry_at=timezone.now() - timedelta(hours=2, minutes=1), failures=3, error="no"
    )
    page = admin_client.get(reverse(LIST)).text
    assert all(each in page for each in ("backing off", "2 h ago", "3 failures"))


@pytest.mark.parametrize(
    ("standing", "names"),
    [("paused", {"ranking"}), ("resting", {"high_score"}), ("working", {"teams", "sheets"})],
)
def test_checkpoints_are_filtered_by_state(admin_client, standing, names):
    """Paused, backing off, or working."""
    Checkpoint.objects.filter(subscription="ranking").update(paused=True)
    Checkpoint.objects.filter(subscription="high_score").update(retry_at=timezone.now())
    found = admin_client.get(reverse(LIST), {"standing": standing}).context["cl"].result_list
    assert {row.subscription for row in found} == names


def lags(page):
    """Return what the list says how far each subscription is behind."""
    found = re.findall(r'field-name"><a [^>]*>(.*?)</a>.*?field-lag">([^<]*)<', page)
    return {name.replace("<wbr>", ""): lag for name, lag in found}


def test_readers_are_told_apart(admin_client):
    """A rebuild that was stopped is not finished, and counts the events of its read model only."""
    with transaction.atomic():
        record(Cheered(player="ann"), Scored(player="ann", points=2), stream="ann")
    Checkpoint.objects.create(context="board", subscription="high_score (rebuild)")
    Checkpoint.objects.create(context="board", subscription="(relay)")
    Checkpoint.objects.create(context="board", subscription="old_board")
    page = admin_client.get(reverse(LIST)).text
    readers = re.findall(r'field-reader">([^<]*)<', page)
    assert Counter(readers) == {"read model": 4, "rebuild": 1, "relay": 1, "not declared": 1}
    assert "unfinished" in page
    assert lags(page)["board high_score (rebuild)"] == "2"  # of three events one is a cheer


def test_only_a_read_model_has_a_switch(admin_client):
    """The pages of the relay and of a rebuild have no button that could not do anything."""
    others = [
        Checkpoint.objects.create(context="board", subscription=name)
        for name in ("high_score (rebuild)", "(relay)", "old_board")
    ]
    assert [">Pause<" in inspected(admin_client, row) for row in others] == [False] * 3
    assert ">Pause<" in inspected(admin_client, checkpoint())


def test_the_relay_is_as_far_behind_as_it_has_to_send(admin_client, settings):
    """In a context with an outbox what the outbox got is not the relay's business any more."""
    Checkpoint.objects.create(context="board", subscription="(relay)")
    score(2)
    assert lags(admin_client.get(reverse(LIST)).text)["board (relay)"] == "0"
    settings.OUTBOX_INBOX = {"CONTEXTS": {"board": {"source": "stream"}}}
    score(3)
    assert lags(admin_client.get(reverse(LIST)).text)["board (relay)"] == "1"
