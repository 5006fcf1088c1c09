"""Rows that a context has on a database that is not its own: no process moves them.

A deployment that changes ``database`` without `manage.py transfer_context` leaves them there.
"""

from typing import Any

from django.db import connections, models

from outbox_inbox.contexts import Context
from outbox_inbox.models import (
    Delivery,
    InboxMessage,
    Interest,
    OutboxMessage,
    Queue,
    StoredEvent,
    Transfer,
    table,
)

from .selection import has_state
from .stats import MOST_COUNTED

Rows = models.QuerySet[Any]


def has_tables(using: str) -> bool:
    """Return whether a database has the tables of this app."""
    return table(Interest) in connections[using].introspection.table_names()


def stray_rows(context: Context, using: str) -> dict[str, int]:
    """Return what a context has on a database that is not its own, by title; only what is there.

    Unfinished messages and deliveries, and events of its streams, each counted up to `MOST_COUNTED` + 1.
    Nothing where a transfer has begun, which says itself how to go on; and nothing on a replica.
    """
    if Transfer.objects.using(using).filter(context=context.label).exists():
        return {}
    found = {
        title: rows
        for title, rows in (
            ("unfinished messages", _unfinished(context, using, OutboxMessage, Queue.OUTBOX)),
            ("unfinished deliveries", _unfinished(context, using, Delivery, Queue.INBOX)),
            ("events of streams", _rows_of(context, using, StoredEvent)),
        )
        if rows.exists()
    }
    if any(_is_copy(context, rows) for rows in found.values()):
        return {}
    return {title: rows[: MOST_COUNTED + 1].count() for title, rows in found.items()}


def _rows_of(context: Context, using: str, model: Any) -> Rows:
    rows: Rows = model.objects.using(using).filter(context=context.label).order_by()
    return rows


def _unfinished(context: Context, using: str, model: Any, queue: Queue) -> Rows:
    return _rows_of(context, using, model).filter(has_state(queue, "unfinished"))


def _is_copy(context: Context, rows: Rows) -> bool:
    """Return whether the context's own database has the first of these rows, too.

    Ids of messages are never the same by chance: the other database is a replica, or another alias.
    """
    if not has_tables(context.database):
        return False
    model, name = (
        (InboxMessage, "message__message_id")
        if rows.model is Delivery
        else (rows.model, "message_id")
    )
    first = rows.values_list(name, flat=True)[0]
    return _rows_of(context, context.database, model).filter(message_id=first).exists()
