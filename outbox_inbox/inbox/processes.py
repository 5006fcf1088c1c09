"""One step of a process: lock the row of its instance, call its method, store everything at once.

Events of one instance may have different keys, and so come from several partitions at the same
time: without the lock on its row, two workers would read one state and the second would overwrite
what the first has stored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.db import connections
from django.db.models import QuerySet
from django.utils import timezone

from outbox_inbox.conf import settings
from outbox_inbox.contexts import Consumer, Context
from outbox_inbox.contexts.consumers import time_out_type
from outbox_inbox.events import codec, meta
from outbox_inbox.events.envelope import Envelope, Handling, current
from outbox_inbox.events.uuid7 import uuid7
from outbox_inbox.models import ProcessState
from outbox_inbox.outbox import recording, scheduling
from outbox_inbox.outbox.rows import Terms, prepare_rows
from outbox_inbox.processes import Process, Route, TimedOut, begin_step
from outbox_inbox.queues import wakeup
from outbox_inbox.queues.statements.dialects import as_uuid_or_none
from outbox_inbox.signals.logging import get_logger

_logger = get_logger("outbox_inbox.inbox")
_NO_LOOP = timedelta(minutes=1)
_CANCELLED = "its process cancelled this time-out, or set it to another time"


def take_step(context: Context, consumer: Consumer, event: Any) -> None:
    """Take a step with an event, in the open transaction.

    Raises:
        UnreadableMessage, NewerVersion: the stored state cannot be read as the class.
        InvalidEvent: the fields hold what cannot be stored, or ``by=`` gave no key.
        Exception: whatever the method raises.
    """
    cls = cast(type[Process], consumer.functions[0].call)
    if isinstance(event, TimedOut):
        row = _lock_instance(context, consumer, event.key)
        if row is not None and row.finished_at is None:
            _Step(context, consumer, row).take_time_out(event)
        return
    route = cls.routes[type(event)]
    key = route.instance(event)
    if key is None:
        return
    row = _lock_instance(context, consumer, key)
    if row is None:
        if route.starts is None and route.missing == "ignore":
            return
        row = _insert_instance(context, consumer, key)
    if row.finished_at is None:
        _Step(context, consumer, row).take_event(event, route)


def _instance_rows(context: Context, consumer: Consumer, key: str) -> QuerySet[ProcessState]:
    rows = ProcessState.objects.using(context.database)
    return rows.filter(context=context.label, process=consumer.name, key=key)


def _lock_instance(context: Context, consumer: Consumer, key: str) -> ProcessState | None:
    """Return the row of an instance, locked until the transaction ends."""
    # SQLite has no row locks: the dispatcher's first write has locked the whole database.
    return _instance_rows(context, consumer, key).select_for_update().first()


def _insert_instance(context: Context, consumer: Consumer, key: str) -> ProcessState:
    now = timezone.now()
    fresh = ProcessState(
        context=context.label,
        process=consumer.name,
        key=key,
        schema_version=meta(cast(type[Process], consumer.functions[0].call)).version,
        created_at=now,
        changed_at=now,
    )
    # Two first events race here: the unique constraint makes the slower one wait for the other's
    # commit, and it goes on from the row that the other has stored.
    ProcessState.objects.using(context.database).bulk_create([fresh], ignore_conflicts=True)
    return _instance_rows(context, consumer, key).select_for_update().get()


@dataclass(slots=True)
class _Step:
    """A step of one instance, whose row is locked."""

    context: Context
    consumer: Consumer
    row: ProcessState

    def take_event(self, event: Any, route: Route) -> None:
        """Start, continue, store for later or ignore, as the event's route says."""
        if self.row.started_at is not None:
            self._take_early_messages()
            if route.continues is not None and self.row.finished_at is None:
                self._call_method(route.continues, event)
        elif route.starts is not None:
            self.row.started_at = timezone.now()
            self._call_method(route.starts, event)
            self._take_early_messages()
        elif route.missing == "keep":
            self._store_early_message()

    def take_time_out(self, event: TimedOut) -> None:
        """Call the method of a time-out, if this is the one that is pending."""
        cause = current.get()
        pending = json.loads(self.row.time_outs)
        found = pending.get(event.name)
        if cause is None or found is None or found["id"] != str(cause.envelope.id):
            return  # cancelled or replaced while this message was on its way
        del pending[event.name]
        self.row.time_outs = _as_json(pending)
        self._call_method(self._class.time_outs[event.name])
        self._take_early_messages()

    @property
    def _class(self) -> type[Process]:
        return cast(type[Process], self.consumer.functions[0].call)

    def _decode_message(self, cls: type, data: str, version: int) -> Any:
        upcasters = self.consumer.upcasters_of(cast(Any, cls))
        return codec.decode(cast(Any, cls), data, version=version, upcasters=upcasters)

    def _call_method(self, method: str, *arguments: Any) -> None:
        process = self._decode_message(self._class, self.row.state, self.row.schema_version)
        asked = begin_step(process, self.row.key)
        getattr(process, method)(*arguments)
        asked.over = True
        row = self.row
        row.state, row.schema_version = codec.encode(cast(Any, process)), meta(process).version
        row.changed_at = timezone.now()
        wanted: Mapping[str, Any] = asked.wanted
        if asked.finished:
            row.finished_at = row.changed_at
            wanted = dict.fromkeys(json.loads(row.time_outs))
        self._set_time_outs(wanted)
        row.save(using=self.context.database)

    def _set_time_outs(self, wanted: Mapping[str, Any]) -> None:
        """Schedule time-outs and cancel others; the row says which message is the pending one."""
        pending = json.loads(self.row.time_outs)
        gone = [pending.pop(name)["id"] for name in wanted if name in pending]
        for name, at in wanted.items():
            if at is not None:
                pending[name] = {"id": self._schedule_time_out(name, at), "at": at.isoformat()}
        self.row.time_outs = _as_json(pending)
        if gone:
            # One that the relay is sending now cannot be withdrawn: it arrives, and is not the one
            # that the row names. So this saves a message, and nothing depends on it.
            scheduling.withdraw_messages(self.context, gone, _CANCELLED)

    def _schedule_time_out(self, name: str, at: Any) -> str:
        connection = connections[self.context.database]
        cause = current.get()
        # A long wait is not a loop: without this, a daily reminder would reach MAX_HOPS in a month.
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

    def _store_early_message(self) -> None:
        """Store the message that is being handled until the instance is started."""
        cause = current.get()
        if cause is None:
            raise RuntimeError("a process takes its steps by deliveries only")
        message = {**asdict(cause.envelope), "hops": cause.hops}
        self.row.early = _as_json([*json.loads(self.row.early), message])
        self.row.changed_at = timezone.now()
        self.row.save(using=self.context.database)

    def _take_early_messages(self) -> None:
        """Handle the messages that came before the start, as if they came now.

        One that the code of this process has no method for stays, and so do the later ones of its
        key: its delivery is done, so nothing else would bring it to a process that has the method.
        The next step of the instance tries it again. A finished process needs none of them.
        """
        if self.row.early == "[]":
            return
        left: list[Mapping[str, Any]] = []
        for kept in json.loads(self.row.early):
            method = None if _is_behind(kept, left) else self._early_method(kept)
            if method is None:
                left.append(kept)
            elif self.row.finished_at is None:
                self._take_early_message(kept, method)
        if left:
            self._report_left(left)
        self.row.early = _as_json(left)
        self.row.save(using=self.context.database, update_fields=["early"])

    def _early_method(self, kept: Mapping[str, Any]) -> str | None:
        cls = self.consumer.events.get(kept["type"])
        route = self._class.routes.get(cast(Any, cls))
        return None if cls is None or route is None else route.continues

    def _take_early_message(self, kept: Mapping[str, Any], method: str) -> None:
        event = self._decode_message(
            self.consumer.events[kept["type"]], kept["data"], kept["version"]
        )
        token = current.set(_handling_of(kept))
        try:
            self._call_method(method, event)
        finally:
            current.reset(token)

    def _report_left(self, left: Sequence[Mapping[str, Any]]) -> None:
        _logger.warning(
            "%s: %s '%s' keeps %d events that came before its start, of %s: the code of this process "
            "has no method for the first of them",
            self.context.label,
            self.consumer.name,
            self.row.key,
            len(left),
            ", ".join(sorted({kept["type"] for kept in left})),
        )


def _is_behind(kept: Mapping[str, Any], left: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an earlier message of the same key is left."""
    return kept["key"] is not None and any(each["key"] == kept["key"] for each in left)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_as_text)


def _as_text(value: UUID | datetime) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _handling_of(kept: Mapping[str, Any]) -> Handling:
    """Return an early message as it was stored: the fields of its envelope, and its hops."""
    fields = dict(kept)
    for name in ("id", "correlation_id", "causation_id"):
        fields[name] = as_uuid_or_none(fields[name])
    fields["time"] = datetime.fromisoformat(fields["time"])
    hops = fields.pop("hops")
    return Handling(Envelope(**fields), hops)
