"""What an operator can do in the admin: with permission, on purpose, and on record."""

from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntryManager
from django.utils import timezone

from outbox_inbox import PermanentError, operations
from outbox_inbox.admin import actions
from outbox_inbox.models import Delivery, Partition
from tests.shop.events import Noted
from tests.support import rows
from tests.support.movers import dispatch, entries, failing, put, relay, steps
from tests.support.pages import (
    SCRIPT,
    act,
    address,
    history,
    list_page,
    messages_of,
    page,
    path,
    state,
)
from tests.support.script import playing

pytestmark = pytest.mark.django_db

DEAD = {"outboxmessage": rows.dead_message, "delivery": rows.dead_delivery}
IDLE = {"outboxmessage": "pending", "delivery": "ready"}


# Permission and purpose


@pytest.mark.parametrize("model", [*DEAD, "partition"])
def test_a_viewer_is_offered_no_action(staff, model):
    """Who may only view has no actions on the list."""
    (DEAD | {"partition": rows.partition})[model]()
    assert 'name="action"' not in list_page(staff(), model)


@pytest.mark.parametrize("model", DEAD)
def test_a_viewer_is_offered_no_button(staff, model):
    """Who may only view has no buttons on the inspect page."""
    row = DEAD[model]()
    assert "oi-button" not in page(staff(), row)


@pytest.mark.parametrize("action", ["retry", "discard"])
@pytest.mark.parametrize("model", DEAD)
def test_a_viewer_cannot_act(staff, model, action):
    """A request made by hand does not get around the permission."""
    row = DEAD[model]()
    act(staff(), action, row, reason="because")
    assert state(row) == "dead"


@pytest.mark.parametrize("model", DEAD)
def test_retry_and_discard_are_permissions_of_their_own(staff, model):
    """Who may retry may not discard."""
    row = DEAD[model]()
    act(staff(f"retry_{model}"), "discard", row, reason="because")
    assert state(row) == "dead"


@pytest.mark.parametrize("model", DEAD)
def test_following_a_link_changes_nothing(admin_client, model):
    """GET requests change no state, whatever their parameters say."""
    row = DEAD[model]()
    query = {"action": "retry", "_selected_action": row.pk, "index": 0}
    admin_client.get(address(model), query)
    admin_client.get(path(row), query)
    assert state(row) == "dead"


def test_another_site_cannot_act(staff):
    """A request without the page's CSRF token is refused."""
    row = rows.dead_message()
    client = staff("retry_outboxmessage", enforce_csrf_checks=True)
    assert act(client, "retry", row).status_code == 403


@pytest.mark.parametrize("model", DEAD)
def test_a_finished_row_has_no_buttons(admin_client, model):
    """There is nothing to be done to what is sent, done or discarded."""
    row = DEAD[model](state="discarded")
    assert "oi-button" not in page(admin_client, row)


# Retry


@pytest.mark.parametrize("model", DEAD)
def test_a_dead_row_is_tried_again(staff, model):
    """Retry makes a dead row due at once, with all its attempts, and is on record."""
    row = DEAD[model]()
    act(staff(f"retry_{model}"), "retry", row)
    row.refresh_from_db()
    assert (row.state, row.attempts, row.due_at) == (IDLE[model], 0, None)
    assert history(row) == ["olga: Retried."]


def test_a_row_that_leaves_the_filter_is_on_record(admin_client):
    """A retry is logged also where the list shows dead messages only, and the row has left it."""
    row = rows.dead_message()
    act(admin_client, "retry", row, query="?state__exact=dead")
    assert history(row) == ["admin: Retried."]


def test_a_retry_is_reported(admin_client):
    """The page says how many messages were retried."""
    chosen = [rows.dead_message(), rows.dead_message()]
    assert messages_of(act(admin_client, "retry", *chosen)) == ["Retried 2 outbox messages."]


def test_what_did_not_fail_has_nothing_on_record(admin_client):
    """A message that was chosen and left as it was has no log entry."""
    fresh = rows.outbox_message()
    act(admin_client, "retry", rows.dead_message(), fresh)
    assert history(fresh) == []


def test_a_message_that_backs_off_is_tried_at_once(admin_client):
    """Retry does not wait for the next attempt of a message that backs off."""
    row = rows.outbox_message(attempts=3, due_at=timezone.now() + timezone.timedelta(hours=1))
    act(admin_client, "retry", row)
    assert history(row) == ["admin: Retried."]


@pytest.mark.django_db(transaction=True)
def test_a_parked_key_goes_on_in_order_after_a_retry(admin_client):
    """A handler fails, its key is parked, the operator retries: all is handled, in order."""
    put(*steps(Noted, 2))
    relay()
    with playing(note=failing(1, error=PermanentError)):
        dispatch()
    act(admin_client, "retry", Delivery.objects.get(state="dead"))
    dispatch()
    assert entries() == [1, 2]


def test_a_retry_of_nothing_says_so(admin_client):
    """When no chosen message has failed, the page says that nothing was done."""
    response = act(admin_client, "retry", rows.outbox_message(state="sent"))
    assert messages_of(response) == [
        "Nothing retried: none of the selected rows is dead or backing off."
    ]


def test_a_retry_and_its_record_are_one_transaction(admin_client, monkeypatch):
    """A retry that cannot be put on record does not happen."""
    row = rows.dead_message()

    def fail(*args: object, **named: object) -> None:
        raise RuntimeError("no log")

    monkeypatch.setattr(LogEntryManager, "log_actions", fail)
    with pytest.raises(RuntimeError, match="no log"):
        act(admin_client, "retry", row)
    assert state(row) == "dead"


def test_many_rows_are_changed_chunk_by_chunk(admin_client, monkeypatch):
    """Each row of a large selection is changed and on record once."""
    monkeypatch.setattr(actions, "CHUNK", 2)
    chosen = [rows.dead_message() for _ in range(5)]
    act(admin_client, "retry", *chosen)
    assert [history(row) for row in chosen] == [["admin: Retried."]] * 5


def test_all_that_a_filter_shows_can_be_retried(admin_client):
    """To select all means what the list shows, and nothing beyond its filter."""
    mine, other = rows.dead_message(context="shop"), rows.dead_message(context="depot")
    query = "?context__exact=shop"
    act(admin_client, "retry", mine, query=query, select_across="1")
    assert (state(mine), state(other)) == ("pending", "dead")


def test_a_message_of_a_context_that_is_gone_is_an_explained_refusal(admin_client):
    """The page says why a message of an unknown context cannot be retried."""
    row = rows.dead_message(context="gone")
    (text,) = messages_of(act(admin_client, "retry", row))
    assert "gone" in text


def test_a_refusal_is_the_only_report(admin_client):
    """Where a context is unknown, the page does not also claim that nothing was to be done."""
    row = rows.partition(context="gone")
    assert len(messages_of(act(admin_client, "pause", row))) == 1


@pytest.mark.parametrize("model", DEAD)
def test_a_button_returns_to_the_inspect_page(admin_client, model):
    """After a retry from the inspect page the operator is on it again."""
    row = DEAD[model]()
    response = act(admin_client, "retry", row, inspect="1")
    assert response.url == path(row)


# Discard


@pytest.mark.parametrize("model", DEAD)
def test_discarding_asks_for_the_reason_first(admin_client, model):
    """The first request changes nothing, and shows what is about to be discarded."""
    row = DEAD[model]()
    response = act(admin_client, "discard", row)
    assert (state(row), str(row) in response.content.decode()) == ("dead", True)


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_nothing_is_discarded_without_a_reason(admin_client, reason):
    """An empty reason is asked for again."""
    row = rows.dead_message()
    response = act(admin_client, "discard", row, reason=reason, total=1)
    assert (state(row), b"Enter a reason" in response.content) == ("dead", True)


@pytest.mark.parametrize("model", DEAD)
def test_a_dead_row_is_discarded_with_its_reason(staff, model):
    """Discard changes the state of the row, and stores the reason with it and on record."""
    row = DEAD[model]()
    act(staff(f"discard_{model}"), "discard", row, reason="sent by hand", total=1)
    row.refresh_from_db()
    assert (row.state, row.error.partition("\n")[0]) == ("discarded", "sent by hand")
    assert history(row) == ["olga: Discarded: sent by hand"]


def test_a_finished_row_is_not_discarded(admin_client):
    """What was sent stays sent, and the page says so."""
    row = rows.outbox_message(state="sent")
    response = act(admin_client, "discard", row)
    assert messages_of(response) == ["Nothing discarded: all selected rows are already finished."]


def test_a_changed_selection_is_asked_about_again(admin_client):
    """When more has died since the question, nothing is discarded before it is asked anew."""
    first, second = rows.dead_message(), rows.dead_message()
    response = act(admin_client, "discard", first, second, reason="because", total=1)
    assert (state(first), b"The selection has changed" in response.content) == ("dead", True)


def test_the_followers_of_a_discarded_head_go_on(admin_client):
    """Discarding the head of a parked key lets the others of the key go."""
    head = rows.dead_message(key="a")
    follower = rows.outbox_message(key="a", state="waiting")
    act(admin_client, "discard", head, reason="because", total=1)
    assert state(follower) == "pending"


def test_a_discarded_head_lets_no_selected_follower_go(admin_client, monkeypatch):
    """While a whole key is discarded chunk by chunk, none of its rows is unblocked."""
    head = rows.dead_message(key="a")
    follower = rows.outbox_message(key="a", state="waiting")
    seen = []

    def discard_and_look(chosen: object, reason: str, by: str) -> None:
        operations.discard_rows(chosen, reason, by)
        seen.append(state(follower))

    monkeypatch.setattr(actions, "CHUNK", 1)
    monkeypatch.setattr(actions, "operations", SimpleNamespace(discard_rows=discard_and_look))
    act(admin_client, "discard", head, follower, reason="because", total=2)
    assert seen == ["discarded", "discarded"]


@pytest.mark.parametrize("field", ["type", "key"])
def test_the_question_shows_hostile_text_as_text(admin_client, field):
    """A hostile message is escaped on the page that asks for the reason."""
    row = rows.dead_message(**{field: SCRIPT})
    assert SCRIPT.encode() not in act(admin_client, "discard", row).content


def test_a_hostile_reason_is_only_text(admin_client):
    """A reason is escaped where it is shown."""
    row = rows.dead_message()
    act(admin_client, "discard", row, reason=SCRIPT, total=1)
    assert SCRIPT not in page(admin_client, row)


def test_the_question_keeps_the_filter(admin_client):
    """After the discard the operator is back on the list with the same filter."""
    row = rows.dead_message()
    query = "?state__exact=dead"
    response = act(admin_client, "discard", row, query=query, reason="because", total=1)
    assert response.url == address("outboxmessage") + query


# Pause and resume


def test_a_partition_is_paused(staff):
    """Pause stops the work on a partition, and is on record."""
    row = rows.partition()
    act(staff("pause_partition"), "pause", row)
    row.refresh_from_db()
    assert (row.paused, history(row)) == (True, ["olga: Paused."])


def test_a_partition_is_resumed(staff):
    """Resume continues the work, and is on record."""
    row = rows.partition(paused=True)
    act(staff("pause_partition"), "resume", row)
    row.refresh_from_db()
    assert (row.paused, history(row)) == (False, ["olga: Resumed."])


def test_a_partition_that_leaves_the_filter_is_on_record(admin_client):
    """A resume is logged also where the list shows paused partitions only."""
    row = rows.partition(paused=True)
    act(admin_client, "resume", row, query="?paused__exact=1")
    assert history(row) == ["admin: Resumed."]


def test_a_partition_that_rests_is_woken(admin_client):
    """Resume ends the back-off of an outage."""
    row = rows.partition(retry_at=timezone.now() + timezone.timedelta(hours=1), outages=3)
    act(admin_client, "resume", row)
    row.refresh_from_db()
    assert (row.retry_at, history(row)) == (None, ["admin: Resumed."])


def test_partitions_of_several_queues_are_paused_together(admin_client):
    """One action may pause a whole context, and counts what it changed."""
    chosen = list(Partition.objects.filter(context="shop"))
    rows.partition(paused=True)
    response = act(admin_client, "pause", *chosen)
    assert messages_of(response) == [f"Paused {len(chosen) - 1} partitions."]


def test_a_viewer_cannot_pause(staff):
    """A request made by hand does not get around the permission."""
    row = rows.partition()
    act(staff(), "pause", row)
    row.refresh_from_db()
    assert not row.paused


def test_a_partition_that_rests_says_why(admin_client):
    """The list shows the reason of a back-off and when the next try is."""
    later = timezone.now() + timezone.timedelta(minutes=5, seconds=9)
    rows.partition(retry_at=later, outages=3, error="TransportUnavailable: no answer")
    shown = list_page(admin_client, "partition")
    assert ("TransportUnavailable: no answer" in shown, "in 5 min" in shown) == (True, True)


def test_partitions_are_filtered_by_context(admin_client):
    """The context filter shows the partitions of that context."""
    rows.partition()
    shown = admin_client.get(address("partition"), {"context__exact": "shop"}).context["cl"]
    assert {row.context for row in shown.result_list} == {"shop"}
