"""A transfer within the transactions of a TestCase: users test their own split like this."""

from typing import Any

import pytest

from outbox_inbox.contexts import get_context
from outbox_inbox.operations import transfer
from outbox_inbox.testing import drain
from tests.shop.events import Noted
from tests.shop.models import Entry, Remark
from tests.support.movers import entries, put, steps

pytestmark = [pytest.mark.hand_over, pytest.mark.django_db(databases=["default", "other"])]


def test_a_hand_over_works_inside_a_test_case(settings: Any) -> None:
    """All steps work in transactions that are rolled back later, with references yet unchecked."""
    put(*steps(Noted, 2))
    Remark.objects.create(entry=Entry.objects.create(consumer="note", order="b", number=1))
    assert transfer.transfer("shop", "other", hold=True).state == "moved"
    assert transfer.abort_transfer("shop", "other")
    assert transfer.transfer("shop", "other").state == "open"
    settings.OUTBOX_INBOX = {"CONTEXTS": {"shop": {"database": "other"}}}
    assert get_context("shop").database == "other"
    drain()
    assert entries() == [1, 2]
    assert Remark.objects.using("other").count() == 1
