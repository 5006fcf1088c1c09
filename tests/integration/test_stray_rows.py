"""What a context has left on a database that is not its own any more is reported."""

from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.utils import timezone

from outbox_inbox.models import OutboxMessage, Transfer, TransferState
from tests.shop.events import Noted
from tests.support.movers import put, relay, run_all, steps
from tests.support.transfers import deploy

pytestmark = pytest.mark.usefixtures("committed")


def found():
    """Return the warnings W014 of a check of the database "default"."""
    messages = run_checks(tags=["outbox_inbox", "database"], databases=["default"])
    return [each for each in messages if each.id == "outbox_inbox.W014"]


def test_what_is_unfinished_on_another_database_is_reported(settings):
    """After the settings alone were changed no process sends or handles it."""
    put(*steps(Noted, 2))
    relay()
    put(*steps(Noted, 3))
    deploy(settings, "shop")
    (message,) = found()
    assert message.obj == "shop"
    assert "is on the database 'other', and has rows on 'default'" in message.msg
    assert "3 unfinished messages, 4 unfinished deliveries" in message.msg


@pytest.mark.catch_up
def test_streams_on_another_database_are_reported(settings):
    """The context would begin them anew."""
    put(*steps(Noted, 2), stream="order-a")
    run_all()
    deploy(settings, "shop")
    (message,) = found()
    assert message.msg.endswith("no process moves or reads: 2 events of streams.")


def test_what_is_on_the_own_database_is_not_reported():
    """There it is moved."""
    put(*steps(Noted, 1))
    assert found() == []


def test_what_is_finished_is_not_reported(settings):
    """It is only kept for a while."""
    put(*steps(Noted, 2))
    run_all()
    deploy(settings, "shop")
    assert found() == []


def test_a_replica_is_not_reported(settings):
    """It has the rows of the own database."""
    put(*steps(Noted, 1))
    deploy(settings, "shop")
    OutboxMessage.objects.using("other").bulk_create(OutboxMessage.objects.using("default"))
    assert found() == []


@pytest.mark.usefixtures("unguarded")
def test_what_is_being_transferred_is_not_reported(settings):
    """The transfer itself says how to go on."""
    put(*steps(Noted, 1))
    terms = {"context": "shop", "number": uuid4(), "other": "other", "changed_at": timezone.now()}
    Transfer.objects.create(state=TransferState.LEFT, **terms)
    deploy(settings, "shop")
    assert found() == []
