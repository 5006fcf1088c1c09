"""A row that was spoilt by hand costs itself only; SQLite checks no types, so such rows exist there."""

import json

import pytest
from django.db import connection

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Checkpoint
from outbox_inbox.streams.projecting import update_projections
from tests.board.events import Annulled
from tests.board.models import HighScore, Ranking
from tests.depot.models import Pick
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.commands import Result
from tests.support.movers import come_due, deliver, dispatch, entries, put, relay

pytestmark = [pytest.mark.sqlite, pytest.mark.usefixtures("committed")]

COLUMNS = [
    ("message_id", "no such value"),
    ("correlation_id", "no such value"),
    ("causation_id", "no such value"),
    ("recorded_at", "no such value"),
    ("recorded_at", "2026-13-45 10:00:00"),
]
KEYS = "abcdef"


def spoil(table, column, value, key="c"):
    """Write what cannot be parsed into a column of the row with this key."""
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = %s WHERE key = %s", [value, key])


def run_until_dead(*movers):
    """Call movers until every attempt was made."""
    for _ in range(40):
        for mover in movers:
            mover()
        come_due()


@pytest.mark.parametrize(("column", "value"), COLUMNS)
@pytest.mark.parametrize("source", ["outbox", "stream"])
def test_a_spoilt_contract_stops_no_other_of_its_batch(settings, source, column, value):
    """It is dead after its attempts, and the other five have arrived with the first sweep."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"source": source}}, "MAX_ATTEMPTS": 3}
    for key in KEYS:
        put(Sold(order=key, number=1))
    spoil(
        "outbox_inbox_outboxmessage" if source == "outbox" else "outbox_inbox_storedevent",
        column,
        value,
    )
    for _ in range(3):
        relay()
        dispatch("depot")
    assert sorted(Pick.objects.filter(consumer="watch").values_list("order", flat=True)) == list(
        "abdef"
    )
    run_until_dead(relay)
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, state FROM outbox_inbox_outboxmessage WHERE state <> 'sent'")
        assert cursor.fetchall() == [("c", "dead")]


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_a_spoilt_message_stops_no_other_delivery(settings, column, value):
    """Its deliveries are dead after their attempts, and the others are done."""
    settings.OUTBOX_INBOX = {"MAX_ATTEMPTS": 3}
    for key in KEYS:
        deliver(Noted(order=key, number=1))
    spoil("outbox_inbox_inboxmessage", column, value)
    run_until_dead(dispatch)
    assert sorted(entries(order=None)) == [1] * 5
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, COUNT(*) FROM outbox_inbox_delivery GROUP BY state ORDER BY 1"
        )
        assert cursor.fetchall() == [("dead", 2), ("done", 10)]


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_a_spoilt_event_of_a_stream_is_shown_as_it_is_stored(column, value):
    """With the reason, and the others before and behind it; the exit code is 3."""
    for key in KEYS:
        put(Noted(order=key, number=1), stream="all")
    spoil("outbox_inbox_storedevent", column, value)
    for form in ("text", "json"):
        result = Result("read_stream", "all", "--format", form)
        assert (result.code, result.error) == (3, "1 event of 'all' cannot be read")
        assert "its row was spoilt" in " ".join(result.out.split())
    found = json.loads(result.out)["events"]
    assert [each["key"] for each in found] == list(KEYS)
    assert value in found[2].values()


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_a_projection_stops_before_a_spoilt_event_and_names_its_place(boarded, column, value):
    """What comes before is kept; a read model that needs no envelope is not stopped."""
    for key in KEYS:
        put(Annulled(player=key, points=1), stream=key)
    spoil("outbox_inbox_storedevent", column, value)
    update_projections(get_context("board"), only=["high_score", "ranking"])
    assert sorted(HighScore.objects.values_list("player", flat=True)) == ["a", "b"]
    error = Checkpoint.objects.get(subscription="high_score").error
    assert "event 1 of the stream 'c'" in error
    assert Ranking.objects.count() == 6
