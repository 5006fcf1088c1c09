"""How a process takes one step: its row is locked, its method called, everything stored at once.

Events of one instance may have different keys, and so come from several partitions at the same
time: the row of the instance puts them in order. Whether it is there is never asked before it is
inserted; the unique constraint decides who was first.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Consumer, Context
from outbox_inbox.contexts.processes import time_out_type
from outbox_inbox.events import DomainEvent, codec, meta
from outbox_inbox.events.envelope import Envelope, Handling, current
from outbox_inbox.events.uuid7 import uuid7
from outbox_inbox.models import ProcessState
from outbox_inbox.outbox import recording, scheduling
from outbox_inbox.outbox.rows import Terms, prepare_rows
from outbox_inbox.processes import Process, Route, TimedOut, begin
from outbox_inbox.queues import wakeup

_NO_LOOP = timedelta(minutes=1)
_CANCELLED = "the time-out was cancelled or set anew by its process"


def step(context: Context, consumer: Consumer, event: Any) -> None:
    """Take a step with an event, in the open transaction.

    Raises:
        UnreadableMessage, NewerVersion: the stored state cannot be read as the class.
        InvalidEvent: the fields hold what cannot be stored, or ``by=`` gave no key.
        Exception: whatever the method raises.
    """
    cls = cast(type[Process], consumer.function)
    if isinstance(event, TimedOut):
        row = _locked(context, consumer, event.key)
        if row is not None and row.finished_at is None:
            _Taking(context, consumer, row).time_out(event)
        return
    route = cls.routes[type(event)]
    key = route.instance(event)
    if key is None:
        return
    row = _locked(context, consumer, key)
    if row is None:
        if route.starts is None and route.missing == "ignore":
            return
        row = _inserted(context, consumer, key)
    if row.finished_at is None:
        _Taking(context, consumer, row).event(event, route)


def _rows(context: Context, consumer: Consumer, key: str) -> QuerySet[ProcessState]:
    rows = ProcessState.objects.using(context.database)
    return rows.filter(context=context.label, process=consumer.name, key=key)


def _locked(context: Context, consumer: Consumer, key: str) -> ProcessState | None:
    """Return the row of an instance, which nobody else changes until the transaction ends."""
    # SQLite has no row locks: the dispatcher has locked everything by its first write.
    return _rows(context, consumer, key).select_for_update().first()


def _inserted(context: Context, consumer: Consumer, key: str) -> ProcessState:
    now = timezone.now()
    fresh = ProcessState(
        context=context.label,
        process=consumer.name,
        key=key,
        schema_version=meta(consumer.function).version,
        created_at=now,
        changed_at=now,
    )
    # Waits for whoever is inserting the same one, and takes what they have made of it.
    ProcessState.objects.using(context.database).bulk_create([fresh], ignore_conflicts=True)
    return _rows(context, consumer, key).select_for_update().get()


@dataclass(slots=True)
class _Taking:
    """One step of one instance, whose row is locked."""

    context: Context
    consumer: Consumer
    row: ProcessState

    def event(self, event: Any, route: Route) -> None:
        """Start, go on, keep for later or ignore."""
        if self.row.started_at is not None:
            if route.continues is not None:
                self._call(route.continues, event)
        elif route.starts is not None:
            self.row.started_at = timezone.now()
            early, self.row.early = json.loads(self.row.early), "[]"
            self._call(route.starts, event)
            for kept in early:
                self._catch_up(kept)
        elif route.missing == "keep":
            self._keep()

    def time_out(self, event: TimedOut) -> None:
        """Call the method of a time-out, if this is the one that is pending."""
        cause = current.get()
        pending = json.loads(self.row.time_outs)
        found = pending.get(event.name)
        if cause is None or found is None or found["id"] != str(cause.envelope.id):
            return  # cancelled or set anew since
        del pending[event.name]
        self.row.time_outs = _text(pending)
        self._call(self._class.time_outs[event.name])

    @property
    def _class(self) -> type[Process]:
        return cast(type[Process], self.consumer.function)

    def _call(self, method: str, *arguments: Any) -> None:
        process = self._read()
        asked = begin(process, self.row.key)
        getattr(process, method)(*arguments)
        asked.over = True
        row = self.row
        row.state, row.schema_version = codec.encode(cast(Any, process)), meta(process).version
        row.changed_at = timezone.now()
        wanted: Mapping[str, Any] = asked.wanted
        if asked.finished:
            row.finished_at = row.changed_at
            wanted = dict.fromkeys(json.loads(row.time_outs))
        self._set(wanted)
        row.save(using=self.context.database)

    def _read(self) -> Process:
        cls = self._class
        found = codec.decode(
            cast(Any, cls),
            self.row.state,
            version=self.row.schema_version,
            upcasters=self.consumer.upcasters_of(cast(Any, cls)),
        )
        return cast(Process, found)

    def _set(self, wanted: Mapping[str, Any]) -> None:
        """Schedule time-outs and cancel others; the row knows which message is the pending one."""
        pending = json.loads(self.row.time_outs)
        gone = [pending.pop(name)["id"] for name in wanted if name in pending]
        for name, at in wanted.items():
            if at is not None:
                pending[name] = {"id": self._schedule(name, at), "at": at.isoformat()}
        self.row.time_outs = _text(pending)
        if gone:
            # Who relies on a time-out not coming looks at this row, so this is tidying only.
            scheduling.withdraw_messages(self.context, gone, _CANCELLED)

    def _schedule(self, name: str, at: Any) -> str:
        connection = connections[self.context.database]
        cause = current.get()
        # Waiting is no loop: a process that reminds somebody every day never ends a chain.
        if cause is not None and at - datetime.now(UTC) >= _NO_LOOP:
            cause = Handling(cause.envelope, 0)
        message = TimedOut(key=self.row.key, name=name)
        terms = Terms(at=at, message_id=uuid7())
        made = prepare_rows(self.context, [message], terms, cause, connection)
        rows = [each._replace(type=time_out_type(self.consumer.name)) for each in made]
        recording.store_rows(self.context, rows, fresh=True)
        if settings().wake_up and at <= datetime.now(UTC):
            wakeup.nudge(self.context)
        return str(rows[0].message_id)

    def _keep(self) -> None:
        """Remember the message that is being handled until the instance is started."""
        cause = current.get()
        if cause is None:
            raise RuntimeError("a process takes its steps by deliveries only")
        self.row.early = _text([*json.loads(self.row.early), _as_json(cause)])
        self.row.changed_at = timezone.now()
        self.row.save(using=self.context.database)

    def _catch_up(self, kept: Mapping[str, Any]) -> None:
        """Handle a message that came before the start, as if it came now."""
        cls = self.consumer.events.get(kept["type"])
        route = self._class.routes.get(cast(Any, cls))
        if cls is None or route is None or route.continues is None or self.row.finished_at:
            return
        event = codec.decode(
            cast(type[DomainEvent], cls),
            kept["data"],
            version=kept["version"],
            upcasters=self.consumer.upcasters_of(cls),
        )
        token = current.set(_handling(kept))
        try:
            self._call(route.continues, event)
        finally:
            current.reset(token)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_json(cause: Handling) -> dict[str, Any]:
    known = cause.envelope
    return {
        "id": str(known.id),
        "type": known.type,
        "version": known.version,
        "source": known.source,
        "key": known.key,
        "time": known.time.isoformat(),
        "correlation_id": str(known.correlation_id),
        "causation_id": None if known.causation_id is None else str(known.causation_id),
        "headers": dict(known.headers),
        "data": known.data,
        "hops": cause.hops,
    }


def _handling(kept: Mapping[str, Any]) -> Handling:
    causation = kept["causation_id"]
    return Handling(
        Envelope(
            id=UUID(kept["id"]),
            type=kept["type"],
            version=kept["version"],
            source=kept["source"],
            key=kept["key"],
            time=datetime.fromisoformat(kept["time"]),
            correlation_id=UUID(kept["correlation_id"]),
            causation_id=None if causation is None else UUID(causation),
            headers=kept["headers"],
            data=kept["data"],
        ),
        kept["hops"],
    )
