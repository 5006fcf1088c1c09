"""What every mover does before it moves anything."""

from collections.abc import Callable

from django.db import connections

from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import OpenTransaction

from .interests import confirm_interests
from .outcome import MoverCall


def begin_call(
    context: Context, limit: int | None, stop: Callable[[], bool], progress: Callable[[int], None]
) -> MoverCall:
    """Return the call of a mover, which commits by itself; the arguments are those of `MoverCall`.

    Raises:
        OpenTransaction: what it commits would not be committed.
    """
    refuse_open_transaction(context.database)
    confirm_interests(context.database)
    return MoverCall(limit, stop, progress)


def refuse_open_transaction(using: str) -> None:
    """Raise OpenTransaction unless a mover can commit on a database.

    A transport would get messages, or acknowledgements, before the commit. A rollback would then
    repeat what the transport has got, or lose what it has deleted.
    """
    connection = connections[using]
    if not connection.settings_dict["AUTOCOMMIT"]:
        raise OpenTransaction(
            f"the database {using!r} has AUTOCOMMIT False, with which Django commits nothing: "
            "remove it from DATABASES"
        )
    # As atomic(durable=True) does it; the transaction in which a test runs is not one of the project.
    if connection.atomic_blocks and not getattr(
        connection.atomic_blocks[-1], "_from_testcase", False
    ):
        raise OpenTransaction(
            f"messages cannot be moved inside an open transaction of the database {using!r}, since "
            "each step is committed by itself: call it outside of transaction.atomic(), and not in a "
            "request with ATOMIC_REQUESTS"
        )
