"""How the refusal of a closed database is recognised: a context that was handed over lives elsewhere.

Triggers refuse whatever a process with old settings writes for such a context
(``operations.transfer.guards``). They cost nothing where nothing was handed over, and their error
is the only thing that the rest of the app has to know.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError

from outbox_inbox.exceptions import ContextMoved

MARK = "outbox_inbox: the context "
"""What the message of every refusal begins with."""


def refusal_text(error: BaseException) -> str | None:
    """Return what a guard said, in one line; None: the error is another."""
    _, mark, said = str(error).partition(MARK)
    return mark + said.splitlines()[0] if mark else None


def explain_refusal(error: DatabaseError) -> None:
    """Raise the refusal of a guard as an error of its own; leave any other to the caller.

    Raises:
        ContextMoved: the context is closed on this database.
    """
    said = refusal_text(error)
    if said is not None:
        raise ContextMoved(said) from error


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Run a block in which a guard may refuse.

    Raises:
        ContextMoved: the context is closed on this database.
    """
    try:
        yield
    except DatabaseError as error:
        explain_refusal(error)
        raise
