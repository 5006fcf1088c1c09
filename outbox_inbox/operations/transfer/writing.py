"""The pass through the guard: a mark on the transfer's row that only its own transaction sees."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Transfer


@contextmanager
def writing(label: str, using: str) -> Iterator[Transfer]:
    """Open a transaction that may write for a context where it is closed to everybody else.

    The mark is taken away before the commit, so nobody else ever sees it; and it locks the row, so
    two that do the same transfer take turns.

    Raises:
        TransferRefused: there is no such row: somebody has taken the hand-over back.
    """
    with transaction.atomic(using=using):
        rows = Transfer.objects.using(using).filter(context=label)
        if not rows.update(writing=True):
            raise TransferRefused(f"the hand-over of {label!r} has been taken back meanwhile")
        yield rows.get()
        rows.update(writing=False)
