"""Recognises the refusal of a database from which a context was transferred to another.

A process with old settings would go on writing to the old database, and what it writes would be
lost. Triggers refuse it (``operations/transfer/guards.py``); they exist only where a context was
transferred. This module turns their error into `ContextMoved`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError

from outbox_inbox.exceptions import ContextMoved

MARK = "outbox_inbox: the context "
"""What the message of every refusal begins with."""


def refusal_text(error: BaseException) -> str | None:
    """Return the message of a guard, in one line; None: the error is another one."""
    _, mark, said = str(error).partition(MARK)
    return mark + said.splitlines()[0] if mark else None


def explain_refusal(error: DatabaseError) -> None:
    """Raise `ContextMoved` if the error is the refusal of a guard; leave any other to the caller."""
    said = refusal_text(error)
    if said is not None:
        raise ContextMoved(said) from error


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Have a block raise `ContextMoved` where a guard refuses what it writes."""
    try:
        yield
    except DatabaseError as error:
        explain_refusal(error)
        raise
