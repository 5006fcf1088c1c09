"""What the bare sides of several brokers share: the outbox, by psycopg alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection

from benchmarks.mall.contracts import Sold
from benchmarks.tables import OUTBOX, analyze_tables, clear_tables, fill_outbox
from outbox_inbox.models import Partition
from outbox_inbox.queues.partitions import ensure_partitions

BATCH: Final = 500


def refill_outbox(count: int, partitions: int = 1) -> None:
    """Leave nothing in the tables but so many messages in the outbox of the mall."""
    clear_tables()
    Partition.objects.all().delete()
    ensure_partitions("default")
    fill_outbox(Sold, count, partitions=partitions)
    analyze_tables()


def connect_psycopg() -> Any:
    """Return a connection to the same tables that Django does not know of."""
    import psycopg

    given = connection.settings_dict
    return psycopg.connect(
        host=given["HOST"],
        port=given["PORT"],
        user=given["USER"],
        password=given["PASSWORD"],
        dbname=given["NAME"],
        options=given["OPTIONS"]["options"],
        autocommit=True,
    )


@contextmanager
def locked_batch(database: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Lock the next rows of the outbox for the block, and mark them as sent at its end."""
    with database.transaction():
        rows = database.execute(
            f"SELECT id, message_id, type, schema_version, key, payload, correlation_id,"
            f" recorded_at FROM {OUTBOX} WHERE context = 'mall' AND partition = 0"
            " AND state = 'pending' AND due_at IS NULL ORDER BY id LIMIT %s FOR UPDATE",
            [BATCH],
        ).fetchall()
        yield rows
        if rows:
            database.execute(
                f"UPDATE {OUTBOX} SET state = 'sent', finished_at = now() WHERE id = ANY(%s)",
                [[row[0] for row in rows]],
            )
