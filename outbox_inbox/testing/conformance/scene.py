"""What the cases of the suite do and look at: the movers, the rows, and how a process dies."""

import gc
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from django.db import transaction

from outbox_inbox import Envelope, record
from outbox_inbox.conf import faults
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.inbox.dispatcher import dispatch_inbox
from outbox_inbox.inbox.receiver import receive_messages
from outbox_inbox.models import (
    Delivery,
    DeliveryAttempt,
    InboxMessage,
    OutboxMessage,
    OutboxState,
    Partition,
    QuarantinedMessage,
    Queue,
)
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.queues import run
from outbox_inbox.queues.outcome import Outcome
from outbox_inbox.testing.clock import advance
from outbox_inbox.transports import Transport, transport

from .effects import effects
from .publisher.contracts import Said

PUBLISHER = "conformance_publisher"
SUBSCRIBER = "conformance_subscriber"
BYSTANDER = "conformance_bystander"
SUBSCRIBERS = (SUBSCRIBER, BYSTANDER)
LABELS = (PUBLISHER, *SUBSCRIBERS)
APPS = tuple(f"outbox_inbox.testing.conformance.{label.partition('_')[2]}" for label in LABELS)

_PATIENCE = 50  # rounds in a row in which nothing moves and a transport cannot be reached


class NothingStruck(AssertionError):
    """The fault point at which the process was to die was not reached."""


class Crash(BaseException):
    """The end of a process without clean-up; a transaction that is open is rolled back."""


def say(*numbers: int, topic: str = "a", text: str = "", **terms: Any) -> list[Envelope]:
    """Record what is said of a topic, in one transaction."""
    return put([Said(topic=topic, number=number, text=text) for number in numbers], **terms)


def put(events: Sequence[Any], **terms: Any) -> list[Envelope]:
    """Record events of the publisher, in one transaction."""
    with transaction.atomic(using=publisher().database):
        return record(*events, **terms)


def publisher() -> Context:
    """Return the publishing context."""
    return get_context(PUBLISHER)


def wire() -> Transport:
    """Return the transport of all three contexts, as this process has it."""
    return transport(publisher().transport)


def relay(**options: Any) -> Outcome:
    """Relay the publisher's outbox."""
    return relay_outbox(publisher(), **options)


def receive(label: str = SUBSCRIBER, **options: Any) -> Outcome:
    """Receive for a subscriber."""
    return receive_messages(get_context(label), **options)


def dispatch(*labels: str) -> Outcome:
    """Dispatch what contexts have in their inboxes."""
    return sum((dispatch_inbox(get_context(label)) for label in labels), Outcome())


def subscribe(*labels: str) -> None:
    """Receive once, so that the transport knows who subscribes from now on."""
    for label in labels or SUBSCRIBERS:
        receive(label)


def settle(*labels: str) -> None:
    """Move everything to where it is to go, whatever backs off; fail if something cannot.

    The first attempt after an outage may meet a connection that has not noticed yet.
    """
    moved, tries = True, 0
    while moved or tries:
        come_due()
        outcome, unreachable = _round(labels or SUBSCRIBERS)
        moved = outcome.steps > 0
        tries = tries + 1 if unreachable and not moved else 0
        assert tries < _PATIENCE, f"the transport cannot be reached: {unreachable}"


def _round(labels: Iterable[str]) -> tuple[Outcome, str]:
    """Take each mover's turn once; return what was done, and what could not be reached."""
    outcome, unreachable = relay() + dispatch(PUBLISHER), resting(Queue.OUTBOX, PUBLISHER)
    for label in labels:
        try:
            outcome += receive(label)
        except TransportUnavailable as error:
            unreachable = str(error)
        outcome += dispatch(label)
    return outcome, unreachable


def come_due() -> None:
    """Let every back-off and outage be over."""
    advance(timedelta(days=1))


def resting(queue: Queue, label: str) -> str:
    """Return why a partition of a queue rests, or empty."""
    rows = Partition.objects.using(get_context(label).database).filter(context=label, queue=queue)
    return next(iter(rows.filter(retry_at__isnull=False).values_list("error", flat=True)), "")


def outbox(*fields: str) -> list[Any]:
    """Return fields of the publisher's contracts in the outbox, in order; default the state."""
    rows = OutboxMessage.objects.using(publisher().database).filter(context=PUBLISHER)
    names = fields or ("state",)
    return list(
        rows.filter(kind="integration").order_by("id").values_list(*names, flat=len(names) == 1)
    )


def all_sent() -> bool:
    """Tell whether everything in the outbox was sent, without one failed attempt."""
    return set(outbox("state", "attempts")) <= {(OutboxState.SENT, 0)}


def inbox(label: str = SUBSCRIBER, topic: str = "a") -> list[int]:
    """Return the numbers of a topic in a subscriber's inbox, in order of their arrival."""
    rows = InboxMessage.objects.using(get_context(label).database).filter(context=label)
    found = map(json.loads, rows.order_by("id").values_list("payload", flat=True))
    return [each["number"] for each in found if each["topic"] == topic]


def heard(label: str = SUBSCRIBER, topic: str = "a") -> list[int]:
    """Return the numbers of a topic that a subscriber has handled, in order of their commits."""
    return [each.number for each in effects if (each.label, each.topic) == (label, topic)]


def quarantined(label: str = SUBSCRIBER) -> list[str]:
    """Return why messages of a subscriber were kept aside."""
    rows = QuarantinedMessage.objects.using(get_context(label).database).filter(context=label)
    return [f"{row.reason}: {row.error}" for row in rows]


def clear() -> None:
    """Forget all that the three contexts have in their databases."""
    effects.clear()
    for label in LABELS:
        using = get_context(label).database
        DeliveryAttempt.objects.using(using).filter(delivery__context=label).delete()
        for model in (Delivery, InboxMessage, OutboxMessage, QuarantinedMessage, Partition):
            model._default_manager.using(using).filter(context=label).delete()


def new_process() -> None:
    """Go on as another process would: with transports that know of nothing before.

    The sockets of the old ones close as they do when a process ends: nobody says good-bye.
    """
    transport.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def quick_processes() -> Iterator[None]:
    """Begin and end with a new process, and let `new_process` look at what came since only."""
    new_process()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        new_process()


@contextmanager
def crashing(point: str, die: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let the process die when it first comes to a fault point, and call ``die`` there.

    Nothing is cleaned up but what the server of the database would: it rolls back.

    Raises:
        NothingStruck: it did not come to that.
    """
    reached = faults.point

    def strike(name: str) -> None:
        if name == point:
            die()
            raise Crash
        reached(name)

    with patch.object(run, "_end_run"), patch.object(faults, "point", strike):
        try:
            yield
        except Crash:
            pass
        else:
            raise NothingStruck(f"{point} was not reached")


def fall_silent() -> None:
    """Let so much time pass that a run of which nobody heard is taken for crashed."""
    for label in LABELS:
        rows = Partition.objects.using(get_context(label).database).filter(context=label)
        rows.update(last_run_at=None)
