"""The statements of the relay, of an outbox or of a stream.

The caller holds the lock of the outbox partition: without it two relays would send the messages of
a key in each other's order. A stream needs the outbox for what cannot be sent at once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .carried import carried
from .common import OUTBOX, STREAM, change_rows, fetch_rows
from .dialects import dialect
from .layouts import Layout, partition_of


class PendingRow(NamedTuple):
    """A row of the table of outbox messages that the relay is to send, with its text if needed.

    ``size``: the bytes that a transport carries, of payload and headers; 0 for a domain event.
    """

    id: int
    kind: str
    type: str
    key: str | None
    attempts: int
    failed: bool
    """Its last attempt has failed, and did not end its worker."""
    holds: bool
    blocked: bool
    message_id: Any
    schema_version: int
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    recorded_at: Any
    size: int
    payload: str | None
    headers: str | None


def select_pending(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    size: int,
    *,
    largest: int | None,
    only: int | None = None,
) -> list[PendingRow]:
    """Return what is to be sent next, in order; followers of a blocked head have ``blocked``.

    Rows are chosen by their state, never by "id after the last one": a transaction that got its
    ids early may commit late, and its messages would never be sent (rule O2).

    Arguments:
        largest: without payload and headers of an integration event if these have more bytes, which
            `select_texts` reads; None: without any.
        only: the row of this id, if it is still to be sent.
    """
    sql = dialect(connection)
    one = "" if only is None else f" AND m.id = {only:d}"
    text, carried_bytes = carried(connection, "m", largest)
    rows = fetch_rows(
        connection,
        "SELECT m.id, m.kind, m.type, m.key, m.attempts, m.error <> '', m.holds, EXISTS ("
        f" SELECT 1 FROM {OUTBOX} h WHERE h.context = m.context AND h.partition = m.partition"
        f" AND h.key = m.key AND h.holds{sql.true} AND h.id <> m.id), m.message_id,"
        " m.schema_version, m.correlation_id, m.causation_id, m.hops, m.key_hash,"
        f" {sql.time_column('m.recorded_at')}, {carried_bytes},"
        f" {text.format('m.payload')}, {text.format('m.headers')}"
        f" FROM {OUTBOX} m{sql.forced_index(OUTBOX) if only is None else ''}"
        f" WHERE {sql.in_partition('m')} AND m.state = 'pending'"
        f" AND m.due_at IS NULL{one} ORDER BY {sql.partition_order('m')} LIMIT %s",
        [*sql.partition_values(context, partition), size],
    )
    return [PendingRow(*row) for row in rows]


def select_texts(
    connection: BaseDatabaseWrapper, ids: Sequence[int], *, stored: bool = False
) -> dict[int, tuple[str, str]]:
    """Return payload and headers of outbox messages by id; ``stored``: of events by position."""
    sql = dialect(connection)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    rows = fetch_rows(
        connection,
        f"SELECT {id_}, payload, headers FROM {name} WHERE {id_} {sql.among}",
        [sql.members(ids)],
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def mark_sent(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Mark messages as sent, after the transport has confirmed them (rule O1)."""
    sql = dialect(connection)
    return change_rows(
        connection,
        f"UPDATE {OUTBOX}{sql.by_id} SET state = 'sent', holds = FALSE, finished_at = {sql.now}"
        f" WHERE id {sql.among} AND state = 'pending'",
        [sql.members(ids)],
    )


def unfinished_keys(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> set[str]:
    """Return those of some keys that have a message in the outbox for which later ones must wait."""
    sql = dialect(connection)  # a message that is scheduled for the future does not block its key
    one = (
        f"SELECT key FROM {OUTBOX} WHERE context = %s AND partition = %s AND {{}}"
        f" AND key {sql.among}"
    )
    which = ("state = 'pending' AND due_at IS NULL", "state = 'waiting'", f"holds{sql.true}")
    rows = fetch_rows(
        connection,
        " UNION ".join(one.format(each) for each in which),
        [context, partition, sql.members(keys)] * 3,
    )
    return {key for (key,) in rows}


_IN_FRONT = -(2**62)  # such low ids are given out by no sequence


def spill_events(
    connection: BaseDatabaseWrapper,
    positions: Sequence[int],
    layout: Layout,
    *,
    in_front: bool = False,
) -> int:
    """Put events of the stream into the outbox, in order: they are sent from there.

    Arguments:
        layout: what the settings say of their context, where none is stored.
        in_front: before all messages that are there, because they are younger.
    """
    sql = dialect(connection)
    event = f"context, {sql.event_columns}, key_hash, kind"
    id_, place = ("id, ", f"position + {_IN_FRONT}, ") if in_front else ("", "")
    return change_rows(
        connection,
        f"INSERT INTO {OUTBOX} ({id_}{event}, recorded_at, partition, state, attempts, holds,"
        f" error) SELECT {place}{event}, recorded_at,"
        f" {partition_of(sql, 'key_hash', 'outbox', layout)}, 'pending', 0, FALSE, ''"
        f" FROM {STREAM}"
        f" WHERE position {sql.among} ORDER BY position ON CONFLICT DO NOTHING",
        [sql.members(positions)],
    )


def move_spilled_to_front(connection: BaseDatabaseWrapper, context: str) -> int:
    """Move the messages that an outbox has from the stream to where `spill_events` puts them."""
    return change_rows(
        connection,
        f"UPDATE {OUTBOX} SET id = s.position + {_IN_FRONT} FROM {STREAM} s"
        f" WHERE s.message_id = {OUTBOX}.message_id AND s.context = {OUTBOX}.context"
        f" AND NOT s.in_outbox AND {OUTBOX}.context = %s"
        f" AND {OUTBOX}.id > 0 AND {OUTBOX}.state IN ('pending', 'waiting', 'dead')",
        [context],
    )
