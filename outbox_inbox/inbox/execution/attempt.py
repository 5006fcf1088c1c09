"""The transaction of an attempt: partition lock, effects and the mark as done in one commit.

With two commits, a crash between them would apply a handler's effects twice, or never (rule O5).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from django.db import transaction

from outbox_inbox.conf import faults
from outbox_inbox.queues import announcements, statements
from outbox_inbox.queues.blame import outage_behind
from outbox_inbox.queues.run import AttemptFailed, GaveWay, Lost, Run, ends_worker
from outbox_inbox.queues.statements import ReadyRow
from outbox_inbox.queues.statements.dialects import gave_way


@contextmanager
def attempt(run: Run, row: ReadyRow, take: Callable[[], None]) -> Iterator[None]:
    """Open a transaction, take its deliveries, and commit what the body does with them.

    An error of an on_commit hook comes after the commit: it is announced with ``row``, and the
    attempt has succeeded. ``take`` takes the partition lock, or raises `Lost`.

    Raises:
        Lost: nothing happened, and no delivery is to blame.
        AttemptFailed: the body or the commit raised.
        django.db.Error: the transaction did not begin, its connection is gone, or the database
            refused what the next delivery would need as well.
    """
    using = run.context.database
    committed: list[bool] = []
    with run.giving_way(), ExitStack() as opening:
        opening.enter_context(transaction.atomic(using=using))
        # The first of all on_commit hooks: the errors after it are those of the others.
        transaction.on_commit(lambda: committed.append(True), using=using)
        take()
        opened = opening.pop_all()
    # An error before this line ("database is locked") is raised as it is: counted as an attempt,
    # it would bury messages that no consumer has seen.
    raised = True
    try:
        with opened:
            faults.point("dispatch.after_claim")
            yield
            raised = False
            run.show_life()
            faults.point("dispatch.before_commit")
        faults.point("dispatch.after_commit")
    except Exception as error:
        if committed:  # the effects are stored: another attempt would apply them twice
            announcements.hook_failed(run.context, row, error)
        elif gave_way(run.connection, error, waited=False):
            raise GaveWay from error
        elif isinstance(error, Lost) or run.disconnected(error) or ends_worker(error):
            raise
        else:
            raise_outage(run, error, committing=not raised)
            raise AttemptFailed(error, raised=raised) from error


def raise_outage(run: Run, error: Exception, *, committing: bool = False) -> None:
    """Raise the error of the context's database that is behind one, if no delivery is to blame."""
    outage = outage_behind(run.connection, error, committing=committing)
    if outage is not None:
        raise outage


def mark_done(run: Run, rows: Sequence[ReadyRow]) -> None:
    """Mark deliveries as done in the transaction of their effects; `Lost` if one is not ready."""
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
