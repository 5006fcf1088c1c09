"""Movers commit by themselves, so they refuse to work inside a transaction that is open."""

import pytest
from django.db import connection, transaction

from outbox_inbox import tasks
from outbox_inbox.contexts import get_context
from outbox_inbox.exceptions import OpenTransaction
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.streams.projecting import update_projections
from tests.support.commands import Result

pytestmark = pytest.mark.usefixtures("committed")

MOVERS = [relay_outbox, receive_messages, dispatch_inbox, update_projections]
COMMANDS = ["drain_outbox", "receive_messages", "drain_inbox", "update_projections"]


@pytest.mark.parametrize("mover", MOVERS)
def test_a_mover_refuses_an_open_transaction(mover):
    """A rollback would lose what the transport was told to delete, or repeat what it was given."""
    with transaction.atomic(), pytest.raises(OpenTransaction, match=r"open transaction"):
        mover(get_context("shop"))


@pytest.mark.parametrize("mover", MOVERS)
def test_a_mover_refuses_a_database_that_commits_nothing(mover, monkeypatch):
    """With AUTOCOMMIT False it would move the same messages again and again."""
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    with pytest.raises(OpenTransaction, match=r"AUTOCOMMIT False"):
        mover(get_context("shop"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_an_open_transaction_with_a_sentence(command):
    """Exit code 1, and no traceback."""
    with transaction.atomic():
        result = Result(command, "--context", "shop")
    assert (result.code, "inside an open transaction" in result.error) == (1, True)


def test_the_celery_task_refuses_an_open_transaction():
    """A task that is called inside a transaction as a function commits nothing either."""
    with transaction.atomic(), pytest.raises(OpenTransaction):
        tasks.relay_outbox("shop")
