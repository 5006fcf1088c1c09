"""Records numbered steps of several keys, for every way of consuming: python -m … KEYS STEPS [PACE].

Each step has an id of its own making, so a writer that was killed is simply started again. With a
pace, that many seconds lie between a step and the next, so that there is always something under way.
"""

import sys
import threading
from uuid import NAMESPACE_OID, uuid5

import django

django.setup()

from django.db import transaction  # noqa: E402  Django has to be set up before

from outbox_inbox import DomainEvent, DuplicateMessage, record  # noqa: E402
from tests.shop.events import Checked, Counted, Listed, Noted  # noqa: E402

EVENTS: tuple[type[DomainEvent], ...] = (Noted, Counted, Listed, Checked)


def write(keys: int, steps: int, pace: float = 0) -> None:
    """Record what has not been recorded yet, a step of a key a transaction."""
    for number in range(1, steps + 1):
        if sum(_take_step(str(key), number) for key in range(keys)):
            threading.Event().wait(pace)


def _take_step(key: str, number: int) -> int:
    """Record a step of a key; return how many of its events were new."""
    with transaction.atomic():
        return sum(_record_once(event, key, number) for event in EVENTS)


def _record_once(event: type[DomainEvent], key: str, number: int) -> bool:
    name = uuid5(NAMESPACE_OID, f"{event.__name__} {key} {number}")
    try:
        record(event(order=key, number=number), message_id=name)
    except DuplicateMessage:
        return False
    return True


if __name__ == "__main__":
    write(*map(int, sys.argv[1:3]), *map(float, sys.argv[3:]))
