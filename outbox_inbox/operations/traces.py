"""What an operator leaves behind: a row for each message that changes, and a line in the log.

The row is stored in the transaction of the change: without that, a crash would leave messages of which
nothing says by which operator they were changed.
"""

import getpass
import os
import socket
from typing import Any

from django.db import connections, transaction
from django.db.models import Model, QuerySet

from outbox_inbox.contexts import Context
from outbox_inbox.models import (
    Delivery,
    OperatorAction,
    OperatorVerb,
    OutboxMessage,
    QuarantinedMessage,
)
from outbox_inbox.models.operators import ROW_FIELDS
from outbox_inbox.queues.statements.dialects import database_time, stored_time
from outbox_inbox.signals.logging import get_logger

_logger = get_logger("outbox_inbox.operations")

_PLACES: dict[type[Model], str] = {
    OutboxMessage: "outbox",
    Delivery: "inbox",
    QuarantinedMessage: "quarantine",
}
_MOST_OF_NAME = 200


def process_owner() -> str:
    """Return the user and the host of this process, ``root@web1``, for what is called from a terminal."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run as a user without a name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:_MOST_OF_NAME]


def keep_trace(
    context: Context,
    rows: QuerySet[Any],
    verb: OperatorVerb,
    by: str | None,
    *,
    reason: str = "",
) -> None:
    """Store what an operator is about to do to locked rows, in the open transaction, before the change.

    Arguments:
        rows: of one table; those that are about to be changed, and no others.
        by: the operator; None: the user and the host of this process.
        reason: why they are discarded.
    """
    model, operator = rows.model, (by or process_owner())[:_MOST_OF_NAME]
    now = stored_time(database_time(connections[context.database]))
    counted = model is not QuarantinedMessage
    names = ("pk", "error", *(["attempts"] if counted else []))
    made = [
        OperatorAction(
            context=context.label,
            verb=verb,
            operator=operator,
            done_at=now,
            attempts=attempts[0] if attempts else 0,
            error=error,
            reason=reason,
            **{f"{ROW_FIELDS[model]}_id": pk},
        )
        for pk, error, *attempts in rows.values_list(*names)
    ]
    if not made:
        return
    OperatorAction.objects.using(context.database).bulk_create(made)
    transaction.on_commit(
        lambda: _log(context, model, verb, operator, len(made), reason), using=context.database
    )


def _log(
    context: Context, model: type[Model], verb: OperatorVerb, by: str, count: int, reason: str
) -> None:
    why = f": {reason}" if reason else ""
    _logger.info(
        "%s of %s: %d rows %s by %s%s", _PLACES[model], context.label, count, verb.value, by, why
    )
