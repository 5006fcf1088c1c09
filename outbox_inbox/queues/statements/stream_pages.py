"""The events of a context that a subscription reads: a page at a time, or counted."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .carried import WHOLE, Reading
from .catch_up import CheckpointProgress, catch_up
from .checkpoints import checkpoint_progress
from .common import fetch_rows
from .dialects import dialect

_COLUMNS = (
    "s.position, s.stream, s.version, s.message_id, s.type, s.schema_version, s.key, {payload},"
    " {headers}, s.correlation_id, s.causation_id, s.hops, s.key_hash, s.kind, {recorded_at},"
    " {size}"
)
_BARE = (
    "s.position, s.stream, s.version, NULL, s.type, s.schema_version, NULL, {payload}, NULL, NULL,"
    " NULL, NULL, NULL, NULL, NULL, NULL"
)


class StreamRow(NamedTuple):
    """A row of the table of stored events; its text is not parsed. A bare page has few columns.

    ``size``: the bytes that a transport carries, of payload and headers, where the relay reads it.
    """

    position: int
    stream: str
    version: int
    message_id: Any
    type: str
    schema_version: int
    key: str | None
    payload: str | None
    headers: str | None
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    kind: str
    recorded_at: Any
    size: int | None

    @property
    def id(self) -> int:
        """Return the position: what the relay knows it by, like the id of an outbox row."""
        return self.position


def select_page(
    connection: BaseDatabaseWrapper,
    context: str,
    progress: CheckpointProgress,
    size: int,
    more: Sequence[str] = (),
    reading: Reading = WHOLE,
    *,
    bare: bool = False,
) -> list[StreamRow]:
    """Return the next events of the target after the position, in order.

    Arguments:
        more: further conditions on columns of ``s``, without parameters.
        reading: how payload and headers are read.
        bare: without what only an envelope or the relay needs, which takes most of the time.
    """
    columns = (_BARE if bare else _COLUMNS).format(
        payload=reading.text.format("s.payload"),
        headers=reading.text.format("s.headers"),
        recorded_at=dialect(connection).time_column("s.recorded_at"),
        size=reading.size,
    )
    page = catch_up(connection).page(columns, context, progress, _conditions(more), size)
    rows = fetch_rows(connection, *page)
    return list(map(StreamRow._make, rows))


def count_unhandled(
    connection: BaseDatabaseWrapper,
    context: str,
    subscription: str,
    most: int,
    more: Sequence[str] = (),
) -> tuple[int, Any]:
    """Return how many events a subscription has still to handle, and when the first was recorded.

    Arguments:
        most: stop counting at so many, without reading the others.
        more: as for `select_page`.
    """
    way = catch_up(connection)
    progress = checkpoint_progress(connection, context, subscription)
    if progress is None:
        progress = CheckpointProgress(way.beginning, None, 0, 0, 0)
    rest = way.rest("s.recorded_at", context, progress, _conditions(more), most)
    rows = " UNION ALL ".join(f"SELECT * FROM ({statement}) r" for statement, _ in rest)
    ((count, oldest),) = fetch_rows(
        connection,
        f"SELECT COUNT(*), MIN(n.recorded_at) FROM ({rows} LIMIT %s) n",
        [*(value for _, parameters in rest for value in parameters), most],
    )
    return count, oldest


def type_condition(types: Sequence[str]) -> str:
    """Return the condition that an event has one of these stored names."""
    names = ", ".join("'" + name.replace("'", "''").replace("%", "%%") + "'" for name in types)
    return f"s.type IN ({names})" if names else "FALSE"


def _conditions(more: Sequence[str]) -> str:
    return "".join(f" AND {each}" for each in more)
