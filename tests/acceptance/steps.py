"""Records numbered steps of several keys, for every way of consuming: python -m … KEYS STEPS [PACE].

Each step has an id of its own making, so a writer that was killed is simply started again. With a
pace, that many seconds lie between a step and the next, so that there is always something under way.
"""

import sys
import threading
from bisect import bisect_left
from uuid import NAMESPACE_OID, UUID, uuid5

import django

django.setup()

from django.db import transaction  # noqa: E402  Django has to be set up before

from outbox_inbox import DomainEvent, DuplicateMessage, record  # noqa: E402
from outbox_inbox.models import OutboxMessage  # noqa: E402
from tests.shop.events import Checked, Counted, Listed, Noted  # noqa: E402

EVENTS: tuple[type[DomainEvent], ...] = (Noted, Counted, Listed, Checked)


def write(keys: int, steps: int, pace: float = 0) -> None:
    """Record what has not been recorded yet, a step of a key a transaction."""
    # What an earlier writer has recorded is not looked at again: it was in order, step by step.
    done = bisect_left(range(1, steps + 1), True, key=lambda number: not _is_there(keys, number))
    for number in range(max(1, done), steps + 1):
        if sum(_take_step(str(key), number) for key in range(keys)):
            threading.Event().wait(pace)


def _is_there(keys: int, number: int) -> bool:
    return OutboxMessage.objects.filter(
        message_id=_name(EVENTS[-1], str(keys - 1), number)
    ).exists()


def _name(event: type[DomainEvent], key: str, number: int) -> UUID:
    return uuid5(NAMESPACE_OID, f"{event.__name__} {key} {number}")


def _take_step(key: str, number: int) -> int:
    """Record a step of a key; return how many of its events were new."""
    with transaction.atomic():
        return sum(_record_once(event, key, number) for event in EVENTS)


def _record_once(event: type[DomainEvent], key: str, number: int) -> bool:
    try:
        record(event(order=key, number=number), message_id=_name(event, key, number))
    except DuplicateMessage:
        return False
    return True


if __name__ == "__main__":
    write(*map(int, sys.argv[1:3]), *map(float, sys.argv[3:]))
