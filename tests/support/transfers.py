"""A context with rows in every table, and what it has on each of two databases."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from outbox_inbox import PermanentError
from outbox_inbox.contexts import get_context
from outbox_inbox.models import Delivery, DeliveryAttempt, ProcessState, QuarantineReason
from outbox_inbox.operations.transfer.tables import QUEUE_MODELS
from outbox_inbox.transports import ReceivedMessage, quarantine
from tests.shop.events import Checked, Counted, Noted
from tests.shop.models import Entry, Remark

from .movers import failing, put, relay, run_all, steps
from .rows import operator_action
from .script import playing

SHOP_MODELS = (*QUEUE_MODELS, Entry, Remark)


def deploy(settings: Any, *labels: str) -> None:
    """Run on with settings that name the other database for these contexts."""
    settings.OUTBOX_INBOX = {"CONTEXTS": {label: {"database": "other"} for label in labels}}


def rows(model: Any, using: str, label: str = "shop") -> list[dict[str, Any]]:
    """Return the rows of a context, in order, with all values."""
    found = model.objects.using(using).order_by("pk")
    if model is DeliveryAttempt:
        return list(found.filter(delivery__context=label).values())
    return list((found.filter(context=label) if model in QUEUE_MODELS else found).values())


def everything(
    using: str, models: Iterable[Any] = SHOP_MODELS, label: str = "shop"
) -> dict[Any, list[dict[str, Any]]]:
    """Return the rows of a context in several tables."""
    return {model: rows(model, using, label) for model in models}


def unfinished_business() -> None:
    """Leave the shop with messages in every state, a stream, and rows that refer to each other."""
    put(*steps(Noted, 3), stream="order-a")
    put(*steps(Counted, 2, "b"))
    with playing(note=failing(2, error=PermanentError)):
        run_all()
    put(*steps(Counted, 2, "c"))
    relay()
    put(*steps(Checked, 2, "d"))
    put(*steps(Counted, 1, "e"), at=timezone.now() + timedelta(days=1))
    Remark.objects.create(entry=Entry.objects.earliest("id"))
    now = timezone.now()
    ProcessState.objects.create(
        context="shop",
        process="shop.watch",
        key="a",
        schema_version=1,
        created_at=now,
        changed_at=now,
    )
    failed = Delivery.objects.filter(context="shop", state="dead").earliest("pk")
    operator_action(failed, done_at=now)
    odd = ReceivedMessage(receipt=None, attributes={"id": "odd"}, data=b"\xff\x00")
    quarantine.quarantine_messages(
        get_context("shop"), [quarantine.RefusedMessage(odd, QuarantineReason.NOT_JSON, "no text")]
    )
