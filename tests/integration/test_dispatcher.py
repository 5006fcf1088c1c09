"""The dispatcher: once, in order, whatever the consumers do."""

import pytest
from django.db import transaction

from outbox_inbox import record
from outbox_inbox.contexts import context
from outbox_inbox.dispatcher import dispatch_inbox
from outbox_inbox.models import Delivery, DeliveryState
from outbox_inbox.relay import relay_outbox
from tests.script import playing
from tests.shop.events import Checked, Counted, Listed, Noted
from tests.shop.models import Entry

pytestmark = pytest.mark.django_db(transaction=True)


def record_all(*events):
    with transaction.atomic():
        record(*events)
    relay_outbox(context("shop"))


def numbers(consumer):
    return list(
        Entry.objects.filter(consumer=consumer).order_by("id").values_list("number", flat=True)
    )


def test_smoke():
    record_all(
        *[
            cls(order="a", number=n)
            for n in range(1, 4)
            for cls in (Noted, Counted, Listed, Checked)
        ]
    )
    outcome = dispatch_inbox(context("shop"))
    print(outcome, numbers("note"), numbers("count"), numbers("enlist"))
    print(relay_outbox(context("shop")), dispatch_inbox(context("depot")))
    from tests.depot.models import Pick

    print(list(Pick.objects.values_list("consumer", "number")))
    assert numbers("note") == [1, 2, 3]


def test_fail():
    def fail(event):
        if event.number == 2 and event.order == "a":
            raise RuntimeError("no")

    with playing(note=fail, count=fail, enlist=lambda es: [fail(e) for e in es]):
        record_all(
            *[
                cls(order=o, number=n)
                for n in range(1, 4)
                for o in "ab"
                for cls in (Noted, Counted, Listed)
            ]
        )
        print(dispatch_inbox(context("shop")))
    print(
        list(Delivery.objects.values_list("consumer", "key", "state", "attempts", "holds", "error"))
    )
    Delivery.objects.update(due_at=None)
    print(dispatch_inbox(context("shop")))
    assert set(Delivery.objects.values_list("state", flat=True)) == {"done"}
    for c in ("note", "count", "enlist"):
        assert list(
            Entry.objects.filter(consumer=c, order="a")
            .order_by("id")
            .values_list("number", flat=True)
        ) == [1, 2, 3]
