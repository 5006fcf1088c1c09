"""Decides what is to blame for an error: one message, or the database that all of them need.

A failed attempt of each message would turn an outage into dead letters, and keep their followers
parked when it is over. An outage that is really the error of one message would stop its partition.
"""

from typing import Any, Final

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .statements.dialects.refusals import blames_server, blames_transaction, blames_values

_NOTE: Final = "_outbox_inbox_outage"
"""An attribute of what a consumer has raised: the outage behind it, or None."""


def note_raised(error: Exception, *, outage: DatabaseError | None) -> None:
    """Note in an exception that a consumer raised it, and not one of our own statements.

    Arguments:
        outage: the error of the context's own database behind it, if the next message would meet
            that as well: it is read-only, full, or has no tables for what the consumer recorded.
    """
    # In its dictionary: a class of the project may let nothing be set.
    vars(error)[_NOTE] = outage


def outage_behind(
    connection: BaseDatabaseWrapper, error: BaseException, *, committing: bool = False
) -> Error | None:
    """Return the error of the context's database that the next message would meet as well.

    A consumer's own mistake, such as a table of its own that is missing, is its message's, and so are
    values that a table does not take. Whatever else one of our own statements meets is an outage.

    Arguments:
        connection: that of the context's database.
        committing: it was raised by the COMMIT, which also runs what the consumer has deferred.
    """
    noted: Any = vars(error).get(_NOTE, error)
    if noted is not error or not isinstance(error, Error):
        return noted if isinstance(noted, Error) else None
    if committing:
        return error if blames_server(connection, error) else None
    # A consumer that ends its transaction by itself leaves the error to our next statement.
    if blames_values(connection, error) or blames_transaction(connection, error):
        return None
    return error


def close_refusing(connection: BaseDatabaseWrapper, error: Error) -> None:
    """Close a connection whose server refuses everything, so that the next try opens another.

    After a failover the old primary may keep its sessions and be read-only for ever: Django keeps a
    connection that answers.
    """
    if blames_server(connection, error) and not connection.in_atomic_block:
        connection.close()
