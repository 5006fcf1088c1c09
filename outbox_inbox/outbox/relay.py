"""The relay: works through the outbox of a context, in order, one worker a partition.

Where the stream is the source, it is followed first (``following.py``).

An integration event is handed to the transport, a domain event is moved to the context's own
inbox. Messages are chosen by their state, never by a position that was reached (rule O2), and are
marked as sent in the transaction that follows the transport's confirmation (rule O1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from outbox_inbox.conf import faults, settings
from outbox_inbox.contexts import Context
from outbox_inbox.exceptions import MessageRefused, TransportUnavailable
from outbox_inbox.models import Kind, OutboxMessage, Queue
from outbox_inbox.queues import announcing, intake, statements
from outbox_inbox.queues.attempts import Verdict, crash, describe, judge
from outbox_inbox.queues.outcome import Outcome, Tally, ignore, never
from outbox_inbox.queues.partitions import PartitionStatuses
from outbox_inbox.queues.run import GaveWay, Lost, Run
from outbox_inbox.queues.statements import PendingRow
from outbox_inbox.queues.sweep import sweep_partitions
from outbox_inbox.transports import Published, transport
from outbox_inbox.transports.outgoing import outgoing

from . import stream_relay


def relay_outbox(
    context: Context,
    *,
    limit: int | None = None,
    stop: Callable[[], bool] = never,
    progress: Callable[[int], None] = ignore,
    seen: PartitionStatuses | None = None,
) -> Outcome:
    """Send what is due in the outbox, until nothing is left to be sent now.

    Each batch is a transaction of its own on the context's database. May be called by any number
    of processes at once: each partition has one of them at a time.

    Arguments:
        limit: send at most so many messages; default: until empty.
        stop: asked between batches; true ends the call.
        progress: told how many messages each batch has sent.
        seen: go over these partitions, once; default: look, until there is nothing left.

    Raises:
        SettingsError: the outbox has to be repartitioned first.
        django.db.OperationalError: the context's database is out of reach; nothing is lost.
    """
    tally = Tally(limit, stop, progress)
    return sweep_partitions(context, Queue.OUTBOX, _relay, tally, seen)


def _relay(run: Run, tally: Tally) -> None:
    """Send what one partition has, batch by batch."""
    relay = _Relay(run, tally)
    try:
        relay.follow_stream()
        while not (run.ended or tally.finished()):
            if run.careful:
                relay.send_one()
            else:
                relay.send_batch()
    except Lost:
        tally.add(Outcome(busy=1))


@dataclass(slots=True)
class _Batch:
    """What a batch came to, told to the world after its commit."""

    sent: int = 0
    held: int = 0
    failed: list[tuple[PendingRow, Verdict]] = field(default_factory=list)


class _Relay:
    """Sends what one partition has; every method may raise `Lost`."""

    def __init__(self, run: Run, tally: Tally) -> None:
        self.run = run
        self.tally = tally
        self.context = run.context
        self.transport = transport(self.context.transport)
        self._locked = False

    def follow_stream(self) -> None:
        """Send what is in the stream, where that is the source: earlier than what comes behind."""
        try:
            stream_relay.send_stream(self.run, self.tally, self.transport)
        except TransportUnavailable as error:
            self._rest(error)

    def send_batch(self) -> None:
        """Send the next messages in one transaction."""
        size = self.tally.size()
        try:
            batch = self._transact(size)
        except TransportUnavailable as error:
            self._rest(error)
        except Lost:
            raise
        except Exception as error:
            if self._is_of_the_database(error):
                raise
            # Nobody knows which message it was: find out as after a crash, one at a time.
            self.run.careful = size
        else:
            self._count(batch)

    def send_one(self) -> None:
        """Send the next message, its attempt committed before anything can happen (rule O9)."""
        self.run.careful -= 1
        row = self._count_attempt()
        if row is None:
            return
        try:
            batch = self._transact(1, row)
        except TransportUnavailable as error:
            self._take_back(row)
            self._rest(error)
        except Lost as lost:
            if isinstance(lost, GaveWay):
                self._take_back(row)
            raise
        except Exception as error:
            if self._is_of_the_database(error):
                raise
            with self.run.locked():
                batch = _Batch(failed=self._fail(row, error, row.attempts + 1))
            self._count(batch)
        else:
            self._count(batch)

    def _take_back(self, row: PendingRow) -> None:
        """Uncount an attempt that ended for a reason that is no message's."""
        with self.run.locked() as connection:
            statements.count_attempt(connection, OutboxMessage, row.id, by=-1)

    def _count_attempt(self) -> PendingRow | None:
        """Commit the attempt of the next message; None: there is none to be sent."""
        batch = _Batch()
        with self.run.locked() as connection:
            self.run.promote(OutboxMessage)
            row = next(iter(self._select(1)), None)
            if row is None:
                self.run.end()
            elif row.blocked:
                batch.held = statements.park_followers(connection, OutboxMessage, [row.id])
            elif row.attempts >= settings().max_attempts:
                batch.failed = self._fail(row, crash(), row.attempts)
            else:
                statements.count_attempt(connection, OutboxMessage, row.id)
                return row
        self._count(batch)
        return None

    def _transact(self, size: int, only: PendingRow | None = None) -> _Batch:
        """Select, send and mark in one transaction; ``only`` had its attempt counted."""
        run, batch = self.run, _Batch()
        self._locked = False
        with run.locked():
            self._locked = True
            faults.point("relay.after_lock")
            if only is None:
                run.promote(OutboxMessage)
            rows = self._select(size, only)
            faults.point("relay.after_select")
            if rows:
                self._send(rows, batch, counted=only is not None)
            if only is None and len(rows) < size:
                run.end()
        faults.point("relay.after_commit")
        return batch

    def _is_of_the_database(self, error: Exception) -> bool:
        """Tell an error that is no message's: before any was touched, or with the connection."""
        return not self._locked or self.run.disconnected(error)

    def _select(self, size: int, only: PendingRow | None = None) -> list[PendingRow]:
        return statements.select_pending(
            self.run.connection,
            self.context.label,
            self.run.number,
            size,
            text=self.transport.needs_text,
            only=None if only is None else only.id,
        )

    def _send(self, rows: Sequence[PendingRow], batch: _Batch, *, counted: bool) -> None:
        connection = self.run.connection
        blocked = [row.id for row in rows if row.blocked]
        if blocked:
            batch.held = statements.park_followers(connection, OutboxMessage, blocked)
        free = [row for row in rows if not row.blocked]
        faults.point("relay.before_publish")
        published = self._publish([row for row in free if row.kind == Kind.INTEGRATION])
        sent = {*published.sent, *self._keep(free, set(published.sent))}
        faults.point("relay.after_publish")
        faults.point("relay.before_mark")
        if sent:
            batch.sent = statements.mark_sent(connection, sorted(sent))
        self._release([row for row in free if row.holds and row.id in sent])
        unsent = [row for row in free if row.id not in sent]
        for row in _first_of_each_key(unsent):
            refusal = published.refused.get(row.id) or _UNMENTIONED
            batch.failed += self._fail(row, refusal, row.attempts + (not counted))
        self.run.recovered()
        faults.point("relay.after_mark")

    def _publish(self, rows: Sequence[PendingRow]) -> Published:
        if not rows:
            return Published(sent=())
        messages = [outgoing(self.context, self.run.connection, row) for row in rows]
        return self.transport.publish(self.context, messages)

    def _keep(self, rows: Sequence[PendingRow], sent: set[int]) -> list[int]:
        """Move domain events to the own inbox, but none behind a contract that was held back."""
        stuck: set[str | None] = set()
        own: list[PendingRow] = []
        for row in rows:
            if row.kind == Kind.DOMAIN and row.key not in stuck:
                own.append(row)
            elif row.id not in sent and row.key is not None:
                stuck.add(row.key)
        ids, label = [row.id for row in own], self.context.label
        if own:
            types = {row.type for row in own}
            intake.move(self.run.connection, ids, self.context, label, types)
        return ids

    def _release(self, solved: Sequence[PendingRow]) -> None:
        """Let the followers of solved heads go."""
        keys = [row.key for row in solved if row.key is not None]
        if keys:
            statements.unblock_messages(
                self.run.connection, self.context.label, self.run.number, keys
            )

    def _fail(
        self, row: PendingRow, error: Exception, attempts: int
    ) -> list[tuple[PendingRow, Verdict]]:
        """Store a failed attempt; the later messages of its key wait from now on (rule O3)."""
        verdict = judge(error, attempts)
        stored = verdict.store(
            self.run.connection, OutboxMessage, row.id, holds=row.key is not None
        )
        return [(row, verdict)] if stored else []

    def _rest(self, error: TransportUnavailable) -> None:
        """Let the partition rest: an outage is no message's fault and costs no attempt."""
        delay = settings().backoff.delay(self.run.outages + 1)
        if error.longest is not None:
            delay = min(delay, error.longest)
        self.run.rest(describe(error), delay.total_seconds())
        announcing.partition_backed_off(self.context, Queue.OUTBOX, self.run.number, error, delay)

    def _count(self, batch: _Batch) -> None:
        dead = sum(verdict.dead for _, verdict in batch.failed)
        self.tally.add(
            Outcome(done=batch.sent, failed=len(batch.failed) - dead, dead=dead, held=batch.held)
        )
        if batch.sent:
            announcing.message_sent(self.context, self.run.number, batch.sent)
        for row, verdict in batch.failed:
            announcing.message_failed(self.context, row, verdict)


_UNMENTIONED = MessageRefused("the transport neither confirmed nor refused it")


def _first_of_each_key(rows: Sequence[PendingRow]) -> list[PendingRow]:
    """Return whose failure it is; the others follow. Two that hold one key would hold each other."""
    first: dict[str | int, PendingRow] = {}
    for row in rows:
        first.setdefault(row.id if row.key is None else row.key, row)
    return list(first.values())
