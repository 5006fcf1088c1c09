"""Records numbered steps of several keys, for every way of consuming: python -m … KEYS STEPS.

Each step has an id of its own making, so a writer that was killed is simply started again.
"""

import sys
from uuid import NAMESPACE_OID, uuid5

import django

django.setup()

from django.db import transaction  # noqa: E402  Django has to be set up before

from outbox_inbox import DomainEvent, DuplicateMessage, record  # noqa: E402
from tests.shop.events import Checked, Counted, Listed, Noted  # noqa: E402

EVENTS: tuple[type[DomainEvent], ...] = (Noted, Counted, Listed, Checked)


def write(keys: int, steps: int) -> None:
    """Record what has not been recorded yet, a step of a key a transaction."""
    for number in range(1, steps + 1):
        for key in map(str, range(keys)):
            with transaction.atomic():
                for event in EVENTS:
                    _record_once(event, key, number)


def _record_once(event: type[DomainEvent], key: str, number: int) -> None:
    name = uuid5(NAMESPACE_OID, f"{event.__name__} {key} {number}")
    try:
        record(event(order=key, number=number), message_id=name)
    except DuplicateMessage:
        return


if __name__ == "__main__":
    write(*map(int, sys.argv[1:]))
