"""Records steps of some keys, for ever or STEPS more of each: python -m tests.rollout.writer KEYS PACE [STEPS].

Old and new writers take turns with the steps of one key; each step is recorded once, with what its
code has to say about it.
"""

import sys
import threading
from itertools import count

import django

django.setup()

from django.db import transaction  # noqa: E402  Django has to be set up before

from outbox_inbox import record  # noqa: E402
from tests.rollout import NEW  # noqa: E402
from tests.rollout.shop import contracts, events  # noqa: E402
from tests.rollout.shop.models import Order, Step  # noqa: E402


def take_step(order: str) -> None:
    """Record the next step of an order."""
    with transaction.atomic():
        row = Order.objects.select_for_update().get(pk=order)
        row.steps += 1
        row.save()
        Step.objects.create(order=order, number=row.steps, fresh=NEW)
        record(events.Placed(order=order, number=row.steps), stream=f"order-{order}")
        if NEW:
            record(events.Refunded(order=order, number=row.steps), stream=f"order-{order}")
            record(contracts.Shipped(order=order, number=row.steps))
            record(contracts.Paid(order=order, number=row.steps, currency="EUR"))
        else:
            record(contracts.Paid(order=order, number=row.steps))


def write(keys: int, pace: float, steps: int | None) -> None:
    """Take steps, one of each order after the other."""
    Order.objects.bulk_create([Order(pk=str(key)) for key in range(keys)], ignore_conflicts=True)
    for _ in count() if steps is None else range(steps):
        for key in range(keys):
            take_step(str(key))
        threading.Event().wait(pace)


if __name__ == "__main__":
    write(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if sys.argv[3:] else None)
