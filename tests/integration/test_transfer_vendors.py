"""A context goes from PostgreSQL to SQLite or back: its rows, and where its subscriptions are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from outbox_inbox import record
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import OutboxMessage
from outbox_inbox.operations import transfer
from tests.shop.events import Noted
from tests.shop.models import Entry, Remark
from tests.support.movers import Worker, put, read_all, read_page, run_all, steps
from tests.support.transfers import everything, unfinished_business

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("unguarded")]


def deploy(settings: Any, database: str) -> None:
    """Run on with settings that name this database for the shop."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": database}}}


@pytest.fixture
def sqlite(unguarded: None, settings: Any, tmp_path: Path) -> Iterator[None]:
    """The alias "sqlite": an SQLite database with the tables of the shop."""
    connections.databases["sqlite"] = {
        **connections.databases["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "shop.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }
    try:
        deploy(settings, "sqlite")
        call_command("migrate", "outbox_inbox", database="sqlite", verbosity=0)
        with connections["sqlite"].schema_editor() as editor:
            for model in (Entry, Remark):
                editor.create_model(model)
        deploy(settings, "default")
        yield
    finally:
        connections["sqlite"].close()
        del connections.databases["sqlite"]
        delattr(connections._connections, "sqlite")


@pytest.mark.parametrize(("old", "new"), [("default", "sqlite"), ("sqlite", "default")])
def test_every_value_is_the_same_on_a_database_of_another_vendor(
    settings: Any, sqlite: None, old: str, new: str
) -> None:
    """Times, ids, texts and bytes arrive as they were, whatever each vendor stores them as."""
    deploy(settings, old)
    if old == "default":
        unfinished_business()
    else:
        put(*steps(Noted, 3), stream="order-a")
    before = everything(old)
    assert transfer.transfer("shop", new).differences == 0
    assert everything(new) == before


@pytest.mark.parametrize(("old", "new"), [("default", "sqlite"), ("sqlite", "default")])
def test_a_subscription_goes_on_where_it_was_on_a_database_of_another_vendor(
    settings: Any, sqlite: None, old: str, new: str
) -> None:
    """A snapshot becomes a position, or the other way round; no event is lost or handled twice."""
    deploy(settings, old)
    put(*steps(Noted, 5), stream="a")
    read_page("slow", 2)
    read_all("quick")
    transfer.transfer("shop", new)
    deploy(settings, new)
    put(*steps(Noted, [6]), stream="a")
    assert read_all("slow") == [("a", number) for number in (3, 4, 5, 6)]
    assert read_all("quick") == [("a", 6)]


def skip_an_event() -> None:
    """Let the subscription "board" handle an event behind one that commits later."""
    with Worker() as late, late.transaction():
        late.do(record, *steps(Noted, 1), stream="late")
        put(*steps(Noted, 2), stream="a")
        assert read_all("board") == [("a", 1), ("a", 2)]


def test_a_gap_in_what_was_handled_is_refused_where_positions_count(sqlite: None) -> None:
    """A position cannot leave out an event: the one in the gap would be lost, or others repeated."""
    skip_an_event()
    with pytest.raises(TransferRefused, match="'board' of 'shop' has handled events behind some"):
        transfer.transfer("shop", "sqlite")


def test_a_subscription_that_has_caught_up_can_go_where_positions_count(
    settings: Any, sqlite: None
) -> None:
    """After the refusal: abort, catch up, and begin again."""
    skip_an_event()
    with pytest.raises(TransferRefused):
        transfer.transfer("shop", "sqlite")
    transfer.abort_transfer("shop", "sqlite")
    assert read_all("board") == [("late", 1)]
    transfer.transfer("shop", "sqlite")
    deploy(settings, "sqlite")
    put(*steps(Noted, [3]), stream="a")
    assert read_all("board") == [("a", 3)]


def test_work_goes_on_on_a_database_of_another_vendor(settings: Any, sqlite: None) -> None:
    """What is pending is sent and handled there, once."""
    put(*steps(Noted, 3))
    transfer.transfer("shop", "sqlite")
    deploy(settings, "sqlite")
    run_all()
    sent = OutboxMessage.objects.using("sqlite").filter(state="sent")
    assert sent.count() == 3
    handled = Entry.objects.using("sqlite").filter(consumer="note").order_by("id")
    assert list(handled.values_list("number", flat=True)) == [1, 2, 3]
