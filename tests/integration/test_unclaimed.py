"""Messages of a contract or an event that no code has any more: they wait, and say why."""

import pytest
from django.apps import apps

from outbox_inbox.contexts import get_context
from outbox_inbox.models import Interest, InterestKind, OutboxMessage, Queue
from outbox_inbox.operations import discard
from outbox_inbox.operations.selection import Selection
from outbox_inbox.outbox import unclaimed
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.movers import (
    come_due,
    entries,
    leave_token,
    picks,
    put,
    relay,
    run_all,
    states,
    steps,
)
from tests.support.wire import WIRE, confirmed

pytestmark = pytest.mark.usefixtures("committed")

LOCAL = {"TRANSPORTS": {"default": "local://"}}
STREAM = {"CONTEXTS": {"shop": {"source": "stream"}}}


@pytest.fixture
def deploy(settings, monkeypatch):
    """A function that deploys the contexts with the contract, or without it everywhere."""
    monkeypatch.setattr(unclaimed, "_met", set())
    (subscribed,) = apps.get_app_config("depot").subscribes

    def deployed(chosen=LOCAL, *, contract):
        monkeypatch.setattr(apps.get_app_config("shop"), "publishes", [Sold] * contract)
        monkeypatch.setattr(apps.get_app_config("depot"), "subscribes", [subscribed] * contract)
        settings.OUTBOX_INBOX = chosen
        if not contract:  # no older process runs any more
            Interest.objects.filter(kind=InterestKind.CONTRACT).delete()

    yield deployed
    monkeypatch.undo()  # before the settings, which have the contexts collected again


@pytest.mark.parametrize("chosen", [LOCAL, WIRE], ids=["local", "broker"])
def test_a_message_of_a_contract_that_was_removed_everywhere_waits(deploy, caplog, chosen):
    """It is not sent to no one: it says why, costs no attempt, and holds its key only."""
    confirmed.clear()
    put(*steps(Sold, 2), *steps(Noted, [3]), *steps(Noted, [4], order="b"))
    deploy(chosen, contract=False)
    outcome = relay()
    assert (outcome.done, outcome.failed) == (1, 0)
    first = OutboxMessage.objects.order_by("id")[0]
    assert (first.state, first.attempts, first.holds) == ("pending", 0, True)
    assert first.error == "Unclaimed: no process has shop.sold, of version 1"
    assert "no process has shop.sold" in caplog.text
    assert confirmed == []
    assert "sent" not in states(key="a")


def test_it_is_sent_after_the_deployment_was_rolled_back(deploy):
    """With what has waited behind it, in order."""
    put(*steps(Sold, 2), *steps(Noted, [3]))
    deploy(contract=False)
    relay()
    deploy(contract=True)
    come_due()
    run_all()
    assert (picks("watch"), entries()) == ([1, 2], [3])
    assert set(states()) == {"sent"}


def test_it_is_sent_while_an_older_process_still_wants_it(deploy, settings):
    """The database knows that a context subscribes; only this process's code does not."""
    put(*steps(Sold, 1))
    deploy(contract=False)
    settings.OUTBOX_INBOX = LOCAL
    now = Interest.objects.values_list("confirmed_at", flat=True)[0]
    Interest.objects.create(
        context="depot",
        kind="contract",
        type="shop.sold",
        schema_version=1,
        hash=0,
        confirmed_at=now,
    )
    assert relay().done == 1
    assert states() == ["sent"]


def test_it_may_be_discarded(deploy):
    """The contract will not come back, and its key goes on."""
    put(*steps(Sold, 1), *steps(Noted, [2]))
    deploy(contract=False)
    relay()
    row = OutboxMessage.objects.order_by("id")[0]
    discard(
        Selection(context="shop", queue=Queue.OUTBOX, id=row.message_id), "removed", unfinished=True
    )
    run_all()
    assert entries() == [2]
    assert states() == ["discarded", "sent"]


def test_a_careful_run_leaves_it_without_an_attempt(deploy):
    """After a crash each attempt is counted before it is made."""
    put(*steps(Sold, 1))
    deploy(contract=False)
    leave_token(Queue.OUTBOX)
    relay()
    assert OutboxMessage.objects.values_list("state", "attempts").get() == ("pending", 0)


@pytest.mark.catch_up
def test_an_event_of_the_stream_waits_in_the_outbox(deploy, settings):
    """What is behind it in the stream goes on, but for its key."""
    deploy(STREAM, contract=True)
    put(*steps(Sold, 1), *steps(Noted, [2]))
    put(*steps(Noted, [3], order="b"))
    deploy(STREAM, contract=False)
    run_all()
    assert (entries(), entries(order="b")) == ([], [3])
    deploy(STREAM, contract=True)
    come_due()
    run_all()
    assert (picks("watch"), entries()) == ([1], [2])


def test_a_domain_event_whose_class_is_gone_waits(monkeypatch):
    """It was renamed without its old name, or the code was rolled back."""
    put(*steps(Noted, 1))
    OutboxMessage.objects.update(type="shop.Renamed")
    relay()
    row = OutboxMessage.objects.get()
    assert (row.state, row.error) == (
        "pending",
        "Unclaimed: no process has shop.Renamed, of version 1",
    )
    assert get_context("shop").event_class("shop.Renamed") is None
