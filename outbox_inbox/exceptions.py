"""Every error of the app, under one root.

The docstring of a class says what happened, why, and the way out; it is also the message when
the class is raised without one. Retryable and permanent errors are different types: a message that
fails with a `PermanentError` is dead at once, after any other exception of a handler it is retried.
"""

import inspect
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

_MOST_ERRORS = 20


class OutboxInboxError(Exception):
    """Something in outbox_inbox went wrong. Every error of the app is a subclass of this one."""

    def __str__(self) -> str:
        return super().__str__() or inspect.cleandoc(type(self).__doc__ or type(self).__name__)


class NotInAtomicBlock(OutboxInboxError):
    """An event was recorded outside a transaction of its context's database.

    The event and the change of state that it reports must be committed together, or one of them
    can be lost. Wrap the use case in `transaction.atomic()` (with `using=` the context's database).
    """


class OpenTransaction(OutboxInboxError):
    """Messages were to be moved inside a transaction that is open, or that is never committed.

    A mover commits each of its steps, and acknowledges messages after it. Call it outside of
    `transaction.atomic()`.
    """


class ConcurrencyError(OutboxInboxError):
    """The stream is not at the expected version: another transaction has appended to it.

    The decision behind this event was made on an old state. Nothing was stored; read the stream
    again, decide again, and record with the new version.
    """


class DuplicateMessage(OutboxInboxError):
    """A message with this id has been recorded before.

    With an id of the caller's own (`record(..., message_id=)`) this means that an earlier attempt
    was committed; nothing more has to be done.
    """


class ForeignCheckpoint(OutboxInboxError):
    """A subscription was restored from a dump: its checkpoint has another server's transaction ids.

    On this server they do not say which events were handled. Nothing was read. Run
    `manage.py rebase_checkpoints` before anything is recorded on this database. Where the rows were
    copied one by one, even that is not enough: the message says what to do.
    """


class PermanentError(OutboxInboxError):
    """Trying again cannot help.

    Raise it (or a subclass) in a handler or translator to make the delivery a dead letter at once,
    without further attempts.
    """


class InvalidEvent(OutboxInboxError):
    """An event holds values that would not survive being stored and read again.

    Nothing was stored and no SQL was run.

    Attributes:
        event: the class name of the event.
        errors: every invalid field, with its path and the reason: ``lines[3].price: NaN is ...``.
    """

    def __init__(self, event: str, errors: Sequence[str]) -> None:
        super().__init__(event, list(errors))
        self.event = event
        self.errors = list(errors)

    def __str__(self) -> str:
        return f"{self.event}: {_shown(self.errors)}"


class InvalidSnapshot(OutboxInboxError):
    """The state of an aggregate holds values that would not survive being stored and read again.

    Loading does not raise it: the aggregate goes on without a snapshot, and the signal
    ``snapshot_refused`` has the reason. Change the fields that the message names, or do without snapshots until that is done
    (`snapshot_every=None`): the stream has everything.

    Attributes:
        state: the class name of the state.
        errors: every invalid field, with its path and the reason: ``total: NaN is ...``.
    """

    def __init__(self, state: str, errors: Sequence[str]) -> None:
        super().__init__(state, list(errors))
        self.state = state
        self.errors = list(errors)

    def __str__(self) -> str:
        return (
            f"a snapshot of {self.state} cannot be stored: {_shown(self.errors)}. Change the "
            "fields, or do without snapshots (snapshot_every=None) until that is done"
        )


def _shown(errors: Sequence[str]) -> str:
    more = len(errors) - _MOST_ERRORS
    return "; ".join([*errors[:_MOST_ERRORS], *([f"and {more} more"] if more > 0 else [])])


class UnreadableMessage(PermanentError):
    """A stored message cannot be turned into its event.

    It is not a JSON object, exceeds a limit (size, depth, nodes), does not fit the fields of the
    class, or an upcaster is missing or failed. Correct the class or its upcasters, then retry
    the message; or discard it.
    """


class NewerVersion(OutboxInboxError):
    """A message, or the state of a process, has a newer version than the class that should read it.

    Newer code has stored it, and runs beside this process. A delivery that raises this is left to
    that code: it counts no attempt, and is looked at again after five seconds.
    """


class MessageConflict(PermanentError):
    """A recorded event has the id of another one that the inbox of its context remembers.

    The id was used again after its outbox row was deleted (RETENTION), and while the inbox still
    remembers it (DEDUPLICATION). Handling it would break the promise that an id is handled once, so
    it is a dead letter: discard it, and record the event again with an id of its own.
    """


class HopLimitExceeded(PermanentError):
    """An event was recorded at the end of a chain of messages longer than MAX_HOPS.

    Two handlers or translators probably answer each other endlessly. Break the loop, or raise
    `OUTBOX_INBOX["MAX_HOPS"]` if the chain is meant to be this long, and retry the message.
    """


class NotAContext(OutboxInboxError, LookupError):
    """A class or a label does not belong to a context.

    A class belongs to the context whose app contains its module. An app is a context if its
    AppConfig is a subclass of `outbox_inbox.contexts.ContextConfig` and is in INSTALLED_APPS.
    """


class SettingsError(OutboxInboxError, ImproperlyConfigured):
    """A setting is wrong. The message names its path, its value and what is expected."""


class ContextMoved(OutboxInboxError):
    """The context was, or is being, transferred to another database, and is closed on this one.

    Nothing was stored; roll the transaction back. Deploy this process with the settings that name
    the context's new database, and try again.
    """


class TransferRefused(OutboxInboxError):
    """A context cannot be transferred like this; nothing was changed. The message says why."""


class PreparationRefused(OutboxInboxError):
    """A database cannot be prepared for the process of a context. The message says why.

    Nothing was changed, unless a migration has failed where not everything is one transaction: the
    message says so.
    """


class RebuildFailed(OutboxInboxError):
    """A projection failed on an event while its read model was rebuilt.

    The events before it are handled, and the live read model is unchanged. Correct the projection,
    and call `manage.py rebuild_projection` again, which continues with this event; with `--restart`
    if the correction changes the result of the events before it.

    Attributes:
        position: of the event, in the stream of all events of its context.
        type: its stored type name.
        message_id: its id.
    """

    def __init__(self, message: str, position: int, type_name: str, message_id: UUID) -> None:
        super().__init__(message, position, type_name, message_id)
        self.position = position
        self.type = type_name
        self.message_id = message_id

    def __str__(self) -> str:
        return str(self.args[0])


class TransportUnavailable(OutboxInboxError):
    """The transport did not answer in time or could not be reached.

    An outage is not the fault of a message and costs no attempts: the partition backs off, and
    tries again.

    Attributes:
        longest: the longest delay before the next try; None (default): as BACKOFF says.
    """

    def __init__(self, *message: str, longest: timedelta | None = None) -> None:
        super().__init__(*message)
        self.longest = longest


class ReadOnlyDatabase(OutboxInboxError, OperationalError):
    """A context's database can be read, but not written: nothing can be recorded or moved there.

    After a failover that is the server that was the primary before. Nothing is lost, and no attempt
    counts. The connection was closed, so that the next one may lead to the server that is right.
    """


class MessageRefused(OutboxInboxError):
    """The transport was reached and refuses this message, for example because it is too large.

    It counts as a failed attempt of this message only.
    """


class HandlerError(OutboxInboxError):
    """A consumer did something that its contract does not allow, without raising an exception.

    It left its transaction unusable, a translator returned something other than events, or the
    delivery's consumer is unknown in this process. It counts as a failed attempt.
    """
