"""The database's clock: ages and limits of rows must not depend on the clock of one machine."""

from datetime import datetime

from django.db.backends.base.base import BaseDatabaseWrapper

from outbox_inbox.queues.statements.common import fetch_rows
from outbox_inbox.queues.statements.dialects import as_datetime, dialect


def database_time(connection: BaseDatabaseWrapper) -> datetime:
    """Return the time of a database."""
    ((now,),) = fetch_rows(connection, f"SELECT {dialect(connection).now}", [])
    return as_datetime(connection, now)
