"""The transaction of an attempt: partition lock, effects and the mark as done in one commit.

With two commits, a crash between them would apply a handler's effects twice, or never (rule O5).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from django.db import transaction

from outbox_inbox.conf import faults
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.run import AttemptFailed, GaveWay, Lost, Run
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.statements.dialects import gave_way


@contextmanager
def attempt(run: Run, row: ReadyRow, take: Callable[[], None]) -> Iterator[None]:
    """Open a transaction, take its deliveries, and commit what the body does with them.

    An error of an on_commit hook comes after the commit: it is announced, and the attempt has
    succeeded.

    Arguments:
        row: the delivery with which an error of a hook is announced.
        take: takes the partition lock; raises `Lost` when the deliveries are not to be handled.

    Raises:
        Lost: nothing happened, and no delivery is to blame.
        AttemptFailed: the body or the commit raised.
        Exception: the transaction did not begin, or its connection is gone.
    """
    with run.giving_way():
        opened = _OpenTransaction(run.context.database, take)
    # An error before this line ("database is locked") is raised as it is: counted as an attempt,
    # it would bury messages that no consumer has seen.
    try:
        with opened:
            faults.point("dispatch.after_claim")
            yield
            run.show_life()
            faults.point("dispatch.before_commit")
        faults.point("dispatch.after_commit")
    except Exception as error:
        if opened.committed:  # the effects are stored: another attempt would apply them twice
            announcements.hook_failed(run.context, row, error)
        elif gave_way(run.connection, error, waited=False):
            raise GaveWay from error
        elif isinstance(error, Lost) or run.disconnected(error):
            raise
        else:
            raise AttemptFailed(error) from error


def mark_done(run: Run, rows: Sequence[ReadyRow]) -> None:
    """Mark deliveries as done in the transaction of their effects.

    Raises:
        Lost: one of them is not ready any more.
    """
    if rows:
        with run.giving_way():
            # An operator has discarded one since it was read: a commit would apply its effects.
            if statements.mark_done(run.connection, [row.id for row in rows]) < len(rows):
                raise Lost
        unblock_followers(run, rows)


def unblock_followers(run: Run, rows: Sequence[ReadyRow]) -> None:
    """Make the deliveries ready that wait for one of these, in the transaction that ends it."""
    pairs = [(row.consumer, row.key) for row in rows if row.holds and row.key is not None]
    if pairs:
        with run.giving_way():
            statements.unblock_deliveries(run.connection, run.context.label, run.number, pairs)


class _OpenTransaction:
    """A transaction that has taken its deliveries; leaving it commits it, or rolls it back.

    It is open before it is entered, so that errors of opening it stand apart from all others.
    """

    def __init__(self, using: str, take: Callable[[], None]) -> None:
        self.committed = False
        self._block = transaction.atomic(using=using)
        self._block.__enter__()
        try:
            # The first of all on_commit hooks: the errors after it are those of the others.
            transaction.on_commit(self._note_commit, using=using)
            take()
        except BaseException as error:
            self._block.__exit__(type(error), error, error.__traceback__)
            raise

    def _note_commit(self) -> None:
        self.committed = True

    def __enter__(self) -> None:
        """Go on with the transaction."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)
