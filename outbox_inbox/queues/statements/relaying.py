"""The relay of an outbox, and of a stream, which needs the outbox for what cannot be sent at once.

The caller holds the lock of the outbox partition.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from .common import OUTBOX, STREAM, change, event_columns, fetch
from .dialects import dialect


class PendingRow(NamedTuple):
    """One message of a batch of the relay; the text is only there when the transport needs it."""

    id: int
    kind: str
    type: str
    key: str | None
    attempts: int
    holds: bool
    blocked: bool
    message_id: Any
    schema_version: int
    correlation_id: Any
    causation_id: Any
    hops: int
    key_hash: int
    recorded_at: Any
    payload: str | None
    headers: str | None


def select_pending(
    connection: BaseDatabaseWrapper,
    context: str,
    partition: int,
    size: int,
    *,
    text: bool,
    only: int | None = None,
) -> list[PendingRow]:
    """Return what is to be sent next, in order; followers of a blocked head say so.

    ``text``: with headers and payload. ``only``: the row of this id, if it is still to be sent.
    """
    say = dialect(connection)
    one = "" if only is None else f" AND m.id = {only:d}"
    part = "CASE WHEN m.kind = 'integration' THEN m.{0} END" if text else "NULL"
    rows = fetch(
        connection,
        "SELECT m.id, m.kind, m.type, m.key, m.attempts, m.holds, EXISTS ("
        f" SELECT 1 FROM {OUTBOX} h WHERE h.context = m.context AND h.partition = m.partition"
        f" AND h.key = m.key AND h.holds{say.true} AND h.id <> m.id), m.message_id,"
        " m.schema_version, m.correlation_id, m.causation_id, m.hops, m.key_hash,"
        f" {say.utc.format('m.recorded_at')},"
        f" {part.format('payload')}, {part.format('headers')} FROM {OUTBOX} m"
        " WHERE m.context = %s AND m.partition = %s AND m.state = 'pending'"
        f" AND m.due_at IS NULL{one} ORDER BY m.id LIMIT %s",
        [context, partition, size],
    )
    return [PendingRow(*row) for row in rows]


def select_texts(
    connection: BaseDatabaseWrapper, ids: Sequence[int], *, stored: bool = False
) -> dict[int, tuple[str, str]]:
    """Return payload and headers of outbox messages by their row id.

    ``stored``: of events of the stream by their position.
    """
    say = dialect(connection)
    name, id_ = (STREAM, "position") if stored else (OUTBOX, "id")
    rows = fetch(
        connection,
        f"SELECT {id_}, payload, headers FROM {name} WHERE {id_} {say.among}",
        [say.members(ids)],
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def mark_sent(connection: BaseDatabaseWrapper, ids: Sequence[int]) -> int:
    """Mark messages as sent, after the transport has confirmed them (rule O1)."""
    say = dialect(connection)
    return change(
        connection,
        f"UPDATE {OUTBOX}{say.by_id} SET state = 'sent', holds = FALSE, finished_at = {say.now}"
        f" WHERE id {say.among} AND state = 'pending'",
        [say.members(ids)],
    )


def unfinished_keys(
    connection: BaseDatabaseWrapper, context: str, partition: int, keys: Sequence[str]
) -> set[str]:
    """Return those of some keys of which messages are in the outbox that later ones wait for.

    What is scheduled for the future is waited for by nobody.
    """
    say = dialect(connection)
    one = (
        f"SELECT key FROM {OUTBOX} WHERE context = %s AND partition = %s AND {{}}"
        f" AND key {say.among}"
    )
    which = ("state = 'pending' AND due_at IS NULL", "state = 'waiting'", f"holds{say.true}")
    rows = fetch(
        connection,
        " UNION ".join(one.format(each) for each in which),
        [context, partition, say.members(keys)] * 3,
    )
    return {key for (key,) in rows}


_IN_FRONT = -(2**62)


def spill_events(
    connection: BaseDatabaseWrapper,
    positions: Sequence[int],
    partitions: int,
    *,
    in_front: bool = False,
) -> int:
    """Put events of the stream into the outbox, in order: they are sent from there.

    ``in_front``: before all that is there, which is younger; no sequence gives out such ids.
    """
    say = dialect(connection)
    event = f"context, {event_columns(say)}, key_hash, kind"
    id_, place = ("id, ", f"position + {_IN_FRONT}, ") if in_front else ("", "")
    return change(
        connection,
        f"INSERT INTO {OUTBOX} ({id_}{event}, recorded_at, partition, state, attempts, holds,"
        f" error) SELECT {place}{event}, recorded_at, key_hash %% %s, 'pending', 0, FALSE, ''"
        f" FROM {STREAM}"
        f" WHERE position {say.among} ORDER BY position ON CONFLICT (message_id) DO NOTHING",
        [partitions, say.members(positions)],
    )


def move_spilled_to_front(connection: BaseDatabaseWrapper, context: str) -> int:
    """Put what an outbox has from the stream before all else, where `spill_events` would put it."""
    return change(
        connection,
        f"UPDATE {OUTBOX} SET id = s.position + {_IN_FRONT} FROM {STREAM} s"
        f" WHERE s.message_id = {OUTBOX}.message_id AND NOT s.in_outbox AND {OUTBOX}.context = %s"
        f" AND {OUTBOX}.id > 0 AND {OUTBOX}.state IN ('pending', 'waiting', 'dead')",
        [context],
    )
