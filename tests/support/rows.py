"""Rows as the movers would leave them, for tests that look at rows only."""

import json
from typing import Any
from uuid import uuid4

from django.utils import timezone

from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OperatorAction,
    OutboxMessage,
    Partition,
    ProcessState,
    QuarantinedMessage,
    Snapshot,
    StoredEvent,
)
from outbox_inbox.transports import ReceivedMessage
from outbox_inbox.transports.quarantine import message_fingerprint


def _message(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "context": "shop",
        "message_id": uuid4(),
        "type": "shop.Noted",
        "schema_version": 1,
        "key": None,
        "payload": '{"number":1,"order":"a"}',
        "headers": "{}",
        "correlation_id": uuid4(),
        "recorded_at": timezone.now(),
        **given,
    }


def outbox_message(**given: Any) -> OutboxMessage:
    """Make a message of the shop's outbox."""
    sort = {"kind": "domain", "key_hash": 0, "hops": 0, "partition": 0}
    return OutboxMessage.objects.create(**sort, **_message(given))


def dead_message(**given: Any) -> OutboxMessage:
    """Make a dead message of the shop's outbox."""
    dead = {"state": "dead", "attempts": 10, "error": "MessageRefused: no", "holds": True}
    return outbox_message(**{**dead, "finished_at": timezone.now(), **given})


def inbox_message(**given: Any) -> InboxMessage:
    """Make a message of the shop's inbox."""
    sort = {"source": "shop", "key_hash": 0, "hops": 0, "received_at": timezone.now()}
    return InboxMessage.objects.create(**{**sort, **_message(given)})


def delivery(message: InboxMessage | None = None, **given: Any) -> Delivery:
    """Make a delivery of a message, of a new one if none is given."""
    message = message or inbox_message(key=given.get("key"))
    sort = {"consumer": "shop.handlers.note", "partition": 0, "key": message.key}
    return Delivery.objects.create(message=message, context=message.context, **{**sort, **given})


def dead_delivery(**given: Any) -> Delivery:
    """Make a dead delivery with its last attempt."""
    dead = {"state": "dead", "attempts": 1, "error": "ValueError: no", "holds": True}
    row = delivery(**{**dead, "finished_at": timezone.now(), **given})
    attempt(row)
    return row


def attempt(row: Delivery | None = None, **given: Any) -> DeliveryAttempt:
    """Make a failed attempt of a delivery, of a new one if none is given."""
    trace = {"error": "ValueError: no", "traceback": "Traceback (most recent call last):\n…"}
    fields = {"number": 1, "failed_at": timezone.now(), **trace, **given}
    return DeliveryAttempt.objects.create(delivery=row or delivery(), **fields)


def operator_action(row: Any = None, **given: Any) -> OperatorAction:
    """Make the retry of a message, of a new dead one if none is given."""
    row = row or dead_message()
    columns = {
        OutboxMessage: "outbox_message",
        Delivery: "delivery",
        QuarantinedMessage: "quarantined_message",
    }
    before = {"attempts": 10, "error": "ValueError: no", "reason": ""}
    done = {"verb": "retried", "operator": "root@web1", "done_at": timezone.now()}
    fields = {"context": row.context, **done, **before, columns[type(row)]: row, **given}
    return OperatorAction.objects.create(**fields)


def stored_event(**given: Any) -> StoredEvent:
    """Make the first event of a stream."""
    sort = {"kind": "domain", "key_hash": 0, "hops": 0, "in_outbox": True}
    place = {"stream": str(uuid4()), "version": 1}
    return StoredEvent.objects.create(**{**sort, **place, **_message(given)})


def snapshot(**given: Any) -> Snapshot:
    """Make the snapshot of a stream."""
    fields = {
        "context": "shop",
        "stream": str(uuid4()),
        "version": 100,
        "event_id": uuid4(),
        "schema_version": 1,
        "layout": "0123456789abcdef",
        "payload": '{"number":1,"order":"a"}',
        "taken_at": timezone.now(),
    }
    return Snapshot.objects.create(**{**fields, **given})


def process(**given: Any) -> ProcessState:
    """Make a running instance of a process, with a time-out that is due."""
    now = timezone.now()
    fields = {
        "context": "ordering",
        "process": "ordering.watch",
        "key": "42",
        "schema_version": 1,
        "time_outs": json.dumps({"overdue": {"id": str(uuid4()), "at": now.isoformat()}}),
        **dict.fromkeys(("created_at", "started_at", "changed_at"), now),
    }
    return ProcessState.objects.create(**{**fields, **given})


def partition(**given: Any) -> Partition:
    """Make or change a partition of the shop's outbox."""
    where = {"context": given.pop("context", "shop"), "queue": "outbox", "number": 0}
    return Partition.objects.update_or_create(**where, defaults=given)[0]


def quarantined(message: ReceivedMessage | None = None, **given: Any) -> QuarantinedMessage:
    """Make a message in the depot's quarantine, of a new one if none is given."""
    attributes = {"id": str(uuid4()), "source": "/shop", "type": "shop.sold.v2"}
    message = message or ReceivedMessage(receipt=None, attributes=attributes, data=b'{"a":1}')
    columns = {name: message.attributes.get(name, "") for name in ("source", "type")}
    fields = {
        "context": "depot",
        "reason": "unknown_version",
        "error": "version 2 cannot be read here",
        "message_id": message.attributes.get("id", ""),
        "attributes": json.dumps(dict(message.attributes)),
        "data": message.data,
        "size": len(message.data),
        "fingerprint": message_fingerprint(message),
        "received_at": timezone.now(),
    }
    return QuarantinedMessage.objects.create(**{**fields, **columns, **given})
