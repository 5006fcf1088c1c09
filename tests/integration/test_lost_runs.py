"""A run that is lost while its worker deals with an error: the error stays what it was."""

import pytest
from django.core.management import CommandError, call_command

from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.inbox import receiver
from outbox_inbox.inbox.execution.failures import Failures
from outbox_inbox.models import Delivery, OutboxMessage, Partition, Queue
from outbox_inbox.operations import pause, resume
from outbox_inbox.outbox import careful_walk
from outbox_inbox.outbox import relay as relay_module
from outbox_inbox.queues.outages import back_off_partition
from tests.shop.contracts import Sold
from tests.shop.events import Noted
from tests.support.arriving import arriving, inbox
from tests.support.movers import (
    Broken,
    deliver,
    dispatch,
    entries,
    leave_token,
    put,
    raising,
    receive,
    relay,
    states,
    steps,
)
from tests.support.script import playing
from tests.support.wire import WIRE

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture(autouse=True)
def wire(settings):
    """The contexts talk over a transport that tests play."""
    settings.OUTBOX_INBOX = WIRE


@pytest.fixture
def operator(monkeypatch):
    """An operator who pauses a partition just when its worker has met an outage."""

    def back_off(run, queue, error):
        pause(run.context, queue)
        back_off_partition(run, queue, error)

    for module in (receiver, relay_module):
        monkeypatch.setattr(module, "back_off_partition", back_off)


def silent(*_):
    """Play a transport that does not answer."""
    raise TransportUnavailable("no answer")


def test_an_intake_that_is_paused_in_an_outage_ends_with_the_outage(operator):
    """The command names it in one line, and the partition stays as the operator has left it."""
    with playing(receive=silent), pytest.raises(CommandError, match="depot: no answer"):
        call_command("receive_messages", "--context", "depot")
    row = Partition.objects.get(context="depot", queue=Queue.INTAKE)
    assert (row.paused, row.outages) == (True, 0)


def test_an_acknowledgement_that_fails_after_the_run_was_lost_is_an_outage():
    """What was stored is not stored again, and the error is the transport's own."""

    def acknowledge(context, messages):
        pause(context, Queue.INTAKE)
        silent()

    waiting = [arriving(1)]
    late = playing(receive=lambda *_: waiting, acknowledge=acknowledge)
    with late, pytest.raises(TransportUnavailable, match="no answer"):
        receive()
    assert inbox() == [1]
    resume(get_context("depot"), Queue.INTAKE)
    with playing(receive=lambda *_: [waiting.pop()] if waiting else []):
        assert receive().done == 1
    assert inbox() == [1]


def test_an_outbox_that_is_paused_in_an_outage_keeps_its_messages(operator):
    """No attempt is counted, and no other worker is said to be busy."""
    put(*steps(Sold, 1))
    with playing(publish=silent):
        assert relay().busy == 0
    assert Partition.objects.get(context="shop", queue=Queue.OUTBOX).paused
    assert OutboxMessage.objects.get().attempts == 0
    resume(get_context("shop"), Queue.OUTBOX)
    relay()
    assert states() == ["sent"]


def test_a_careful_run_that_is_lost_in_an_outage_uses_up_no_attempt(monkeypatch):
    """The attempt was counted before the transport got the message."""
    put(*steps(Sold, 1))
    leave_token(Queue.OUTBOX)
    send_batch = careful_walk.send_batch

    def send_and_lose(run, *arguments, **options):
        try:
            return send_batch(run, *arguments, **options)
        finally:
            pause(run.context, Queue.OUTBOX)

    monkeypatch.setattr(careful_walk, "send_batch", send_and_lose)
    with playing(publish=silent):
        assert relay().busy == 0
    assert OutboxMessage.objects.get().attempts == 0


def test_a_handler_that_fails_after_the_run_was_lost_is_called_again(monkeypatch):
    """Its attempt is not counted by a worker that has the partition no more."""
    deliver(*steps(Noted, 1))
    fail_delivery = Failures.fail_delivery

    def lose_and_fail(self, *arguments, **options):
        pause(get_context("shop"), Queue.INBOX)
        fail_delivery(self, *arguments, **options)

    monkeypatch.setattr(Failures, "fail_delivery", lose_and_fail)
    with playing(note=raising(Broken)):
        assert dispatch().failed == 0
    resume(get_context("shop"), Queue.INBOX)
    dispatch()
    assert entries() == [1]
    assert set(Delivery.objects.values_list("attempts", flat=True)) == {0}
