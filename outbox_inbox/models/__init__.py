"""The tables: the local stream, the outbox, the inbox with its deliveries, and the partitions.

Every row names its context, so one set of tables per database serves all contexts that live there.
``payload`` and ``headers`` are canonical JSON **text**: written once by ``record()``, moved as they
are by the relay, and read only where an event is handled.

Each partial index below serves one statement of ``statements.py``; its predicate is contained in
that statement's WHERE, and a test asks the planner whether it is used.
"""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

_MADE_OTHERWISE = {"models.W037", "models.W043", "models.W044"}  # indexes of part of a table, …


class Kind(models.TextChoices):
    """What sort of event a message carries."""

    DOMAIN = "domain", _("domain event")
    """Private: never leaves its context."""
    INTEGRATION = "integration", _("integration event")
    """A public, versioned contract: goes out through the transport."""


class OutboxState(models.TextChoices):
    """Where a message of the outbox stands."""

    PENDING = "pending", _("pending")
    """To be sent, at once or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Behind a message of its key that could not be sent."""
    SENT = "sent", _("sent")
    """Confirmed: by the transport, or by the commit that put it into the inbox."""
    DEAD = "dead", _("dead")
    """Given up after its last attempt; a person retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person; it will not be sent."""


class DeliveryState(models.TextChoices):
    """Where a delivery stands."""

    READY = "ready", _("ready")
    """To be handled, at once or when ``due_at`` has come."""
    WAITING = "waiting", _("waiting")
    """Behind a delivery of its key and consumer that could not be handled."""
    DONE = "done", _("done")
    """Handled: committed together with its effects."""
    DEAD = "dead", _("dead")
    """Given up after its last attempt; a person retries or discards it."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person; it will not be handled."""


class QuarantineState(models.TextChoices):
    """Where a message stands that was kept aside."""

    QUARANTINED = "quarantined", _("quarantined")
    """Kept aside; a person releases or discards it."""
    RELEASED = "released", _("released")
    """Judged again, and let into the inbox."""
    DISCARDED = "discarded", _("discarded")
    """Set aside by a person for good."""


class Reason(models.TextChoices):
    """Why a message from outside was kept aside."""

    TOO_LARGE = "too_large", _("too large")
    """More bytes than ``MAX_PAYLOAD``; only so many of them are kept."""
    TOO_DEEP = "too_deep", _("too deep")
    """Nested too deeply, or made of too many values."""
    NOT_JSON = "not_json", _("not JSON")
    """The data is no acceptable JSON object."""
    MALFORMED = "malformed", _("malformed")
    """An attribute is missing or wrong."""
    UNKNOWN_SOURCE = "unknown_source", _("unknown source")
    """From a context that this one does not listen to."""
    UNKNOWN_TYPE = "unknown_type", _("unknown type")
    """No contract of its source, or (when it was to be released) none that is subscribed to."""
    UNKNOWN_VERSION = "unknown_version", _("unknown version")
    """Newer than this process knows, or older than it can read."""
    WRONG_SCHEMA = "wrong_schema", _("wrong schema")
    """The data does not fit the contract."""
    WRONG_SIGNATURE = "wrong_signature", _("wrong signature")
    """Not signed as its source signs."""
    CONFLICT = "conflict", _("conflict")
    """Its id has been received before, with other content."""


class Queue(models.TextChoices):
    """What a partition is a part of."""

    OUTBOX = "outbox", _("outbox")
    """Worked on by the relay."""
    INBOX = "inbox", _("inbox")
    """Worked on by the dispatcher."""
    INTAKE = "intake", _("intake")
    """Worked on by the receiver: one at a time per context."""


class Row(models.Model):
    """What all tables have in common."""

    class Meta:
        abstract = True

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Leave out Django's warnings of what MySQL and MariaDB cannot have.

        The migration 0003 gives them constraints and indexes of their own instead.
        """
        return [found for found in super().check(**kwargs) if found.id not in _MADE_OTHERWISE]


class Message(Row):
    """The columns that an event has wherever it is stored."""

    context = models.CharField(max_length=50)
    message_id = models.UUIDField()
    type = models.CharField(max_length=200)
    schema_version = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    payload = models.TextField()
    headers = models.TextField()
    correlation_id = models.UUIDField()
    causation_id = models.UUIDField(null=True)
    recorded_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.type} {self.message_id}"


class StoredEvent(Message):
    """One event of a local stream. Written once, never changed, never pruned.

    On PostgreSQL it has one column more, ``xid``: the id of the transaction that wrote it, by which
    subscriptions tell what is new to them (``cursors.py``).
    """

    position = models.BigAutoField(primary_key=True)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    message_id = models.UUIDField(unique=True)
    kind = models.CharField(max_length=11, choices=Kind)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    in_outbox = models.BooleanField()
    """The outbox got it as well, so the relay has nothing to do with it here."""

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("stored event")
        constraints = [
            models.UniqueConstraint("context", "stream", "version", name="outbox_inbox_stream")
        ]


class Snapshot(Row):
    """What an aggregate had come to at a version of its stream: saves reading what led to it.

    It can be deleted at any time, and is then taken anew.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    stream = models.CharField(max_length=200)
    version = models.PositiveIntegerField()
    """How many events of the stream are in it."""
    event_id = models.UUIDField()
    """Message id of the last of these, by which it belongs to this stream and no other."""
    schema_version = models.PositiveIntegerField()
    """Of the snapshot: what the code calls the meaning of its fields."""
    layout = models.CharField(max_length=16)
    """Changes with the fields of the class, and with their types."""
    payload = models.TextField()
    taken_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("snapshot")
        constraints = [
            models.UniqueConstraint("context", "stream", name="outbox_inbox_snapshot_stream")
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.stream} at version {self.version}"


class OutboxMessage(Message):
    """One message that a context recorded and has to send on. Only its state columns change."""

    id = models.BigAutoField(primary_key=True)
    message_id = models.UUIDField(unique=True)
    kind = models.CharField(max_length=11, choices=Kind)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    partition = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=9, choices=OutboxState, default=OutboxState.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """Not before this time: scheduled, or backing off. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be sent, and the later messages of its key wait for it."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("retry_outboxmessage", "Can retry outbox messages"),
            ("discard_outboxmessage", "Can discard outbox messages"),
        ]
        verbose_name = _("outbox message")
        indexes = [
            models.Index(
                "context",
                "partition",
                "id",
                condition=Q(state="pending", due_at__isnull=True),
                name="outbox_inbox_out_pending",
            ),
            models.Index(
                "context",
                "partition",
                "due_at",
                condition=Q(state="pending", due_at__isnull=False),
                name="outbox_inbox_out_due",
            ),
            models.Index(
                "context",
                "partition",
                "key",
                condition=Q(holds=True),
                name="outbox_inbox_out_holds",
            ),
            models.Index(
                "context",
                "partition",
                "key",
                condition=Q(state="waiting"),
                name="outbox_inbox_out_waiting",
            ),
            models.Index("context", condition=Q(state="dead"), name="outbox_inbox_out_dead"),
            models.Index("correlation_id", name="outbox_inbox_out_talk"),
        ]


class InboxMessage(Message):
    """One message that a context received. Never changed; it is also the memory of duplicates."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(max_length=50)
    key_hash = models.BigIntegerField()
    hops = models.PositiveSmallIntegerField()
    received_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("inbox message")
        constraints = [
            models.UniqueConstraint("message_id", "context", "source", name="outbox_inbox_in_once")
        ]
        indexes = [models.Index("correlation_id", name="outbox_inbox_in_talk")]


class QuarantinedMessage(Row):
    """One message that came from outside and did not get into the inbox, as it came.

    Everything that its sender says of it is text that nobody has checked.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    reason = models.CharField(max_length=15, choices=Reason)
    error = models.TextField()
    source = models.CharField(max_length=200)
    message_id = models.CharField(max_length=200)
    type = models.CharField(max_length=200)
    attributes = models.TextField()
    """JSON of all attributes."""
    data = models.BinaryField()
    """The bytes of the payload, the first ``MAX_PAYLOAD`` of them."""
    size = models.PositiveBigIntegerField()
    """Bytes that it had."""
    fingerprint = models.CharField(max_length=64)
    """SHA-256 of attributes and data: what comes again is kept once."""
    received_at = models.DateTimeField()
    state = models.CharField(
        max_length=11, choices=QuarantineState, default=QuarantineState.QUARANTINED
    )
    finished_at = models.DateTimeField(null=True)
    note = models.TextField(default="")
    """Why it was discarded, in the operator's words."""

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("release_quarantinedmessage", "Can release quarantined messages"),
            ("discard_quarantinedmessage", "Can discard quarantined messages"),
        ]
        verbose_name = _("quarantined message")
        constraints = [
            models.UniqueConstraint("context", "fingerprint", name="outbox_inbox_quarantine_once")
        ]
        indexes = [
            models.Index(
                "context",
                condition=Q(state="quarantined"),
                name="outbox_inbox_quarantined",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type[:60] or '(no type)'} {self.message_id[:60] or '(no id)'}: {self.reason}"

    @property
    def complete(self) -> bool:
        """Whether all of its bytes were kept."""
        return self.size == len(self.data)


class Delivery(Row):
    """One message for one consumer of the context. Narrow, since every handling changes it."""

    id = models.BigAutoField(primary_key=True)
    # No constraint in the database: rows are only made in the statement that follows their
    # message's, and the check would lock and rewrite the message row once for each delivery.
    message = models.ForeignKey(
        InboxMessage,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="deliveries",
    )
    context = models.CharField(max_length=50)
    consumer = models.CharField(max_length=200)
    partition = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is "no order", "" a key
    state = models.CharField(max_length=9, choices=DeliveryState, default=DeliveryState.READY)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    """Backing off until this time. Null: at once."""
    holds = models.BooleanField(default=False)
    """It could not be handled, and the later deliveries of its key and consumer wait for it."""
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(default="")

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("retry_delivery", "Can retry deliveries"),
            ("discard_delivery", "Can discard deliveries"),
        ]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint("message", "consumer", name="outbox_inbox_delivery_once")
        ]
        indexes = [
            models.Index(
                "context",
                "partition",
                "id",
                condition=Q(state="ready", due_at__isnull=True),
                name="outbox_inbox_del_ready",
            ),
            models.Index(
                "context",
                "partition",
                "due_at",
                condition=Q(state="ready", due_at__isnull=False),
                name="outbox_inbox_del_due",
            ),
            models.Index(
                "context",
                "partition",
                "consumer",
                "key",
                condition=Q(holds=True),
                name="outbox_inbox_del_holds",
            ),
            models.Index(
                "context",
                "partition",
                "consumer",
                "key",
                condition=Q(state="waiting"),
                name="outbox_inbox_del_waiting",
            ),
            models.Index("context", condition=Q(state="dead"), name="outbox_inbox_del_dead"),
        ]

    def __str__(self) -> str:
        return f"{self.consumer} #{self.pk}"


class DeliveryAttempt(models.Model):
    """One failed attempt to handle a delivery, with its traceback. Never changed."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="failures")
    number = models.PositiveIntegerField()
    failed_at = models.DateTimeField()
    error = models.TextField()
    traceback = models.TextField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("delivery attempt")

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.error}"


class ProcessState(Row):
    """One instance of a process manager: what it remembers, and what it waits for."""

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    process = models.CharField(max_length=200)
    key = models.CharField(max_length=200)
    state = models.TextField(default="{}")
    """JSON of the fields of the process."""
    schema_version = models.PositiveSmallIntegerField()
    time_outs = models.TextField(default="{}")
    """JSON: name of each pending time-out -> its message id and time."""
    early = models.TextField(default="[]")
    """JSON of the messages that came before the instance was started."""
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("process")
        verbose_name_plural = _("processes")
        constraints = [
            models.UniqueConstraint("context", "process", "key", name="outbox_inbox_process_once")
        ]

    def __str__(self) -> str:
        return f"{self.process} {self.key}"


class Partition(Row):
    """A share of a context's queue: the lock, the pause switch, the back-off of an outage."""

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    queue = models.CharField(max_length=6, choices=Queue)
    number = models.PositiveSmallIntegerField()
    paused = models.BooleanField(default=False)
    run = models.UUIDField(null=True)
    """The run that is under way; still there when nobody holds the lock: it ended in a crash."""
    last_run_at = models.DateTimeField(null=True)
    retry_at = models.DateTimeField(null=True)
    """The transport was out; not before this time."""
    outages = models.PositiveIntegerField(default=0)
    """Failed tries in a row to reach the transport."""
    error = models.TextField(default="")

    class Meta:
        default_permissions = ("view",)
        permissions = [("pause_partition", "Can pause and resume partitions")]
        verbose_name = _("partition")
        constraints = [
            models.UniqueConstraint(
                "context", "queue", "number", name="outbox_inbox_partition_number"
            )
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.queue} {self.number}"


class Checkpoint(Row):
    """How far a subscription has read the stream of all events of its context; and its lock.

    Who has the row locked reads on; what was read is handled in the transaction that moves the
    checkpoint. What the columns mean to each database is told in ``cursors.py``.
    """

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50)
    subscription = models.CharField(max_length=200)
    done = models.TextField(default="")
    """PostgreSQL: the snapshot whose events have all been handled."""
    target = models.TextField(null=True)  # noqa: DJ001 - null is "none", a snapshot is never ""
    """PostgreSQL: the snapshot that is being worked off."""
    position = models.BigIntegerField(default=0)
    """The last one that was handled; on PostgreSQL: of the target."""
    last = models.BigIntegerField(default=0)
    """PostgreSQL: the last position of the target."""
    size = models.BigIntegerField(default=0)
    """PostgreSQL: how many events the target has."""
    cluster = models.CharField(max_length=20, default="")
    """PostgreSQL: the system identifier of the server, whose transaction ids these are."""
    paused = models.BooleanField(default=False)
    retry_at = models.DateTimeField(null=True)
    """It failed; not before this time."""
    failures = models.PositiveIntegerField(default=0)
    """Failed tries in a row."""
    error = models.TextField(default="")
    changed_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        permissions = [("pause_checkpoint", "Can pause and resume subscriptions")]
        verbose_name = _("checkpoint")
        constraints = [
            models.UniqueConstraint("context", "subscription", name="outbox_inbox_checkpoint_once")
        ]

    def __str__(self) -> str:
        return f"{self.context} {self.subscription}"


class TransferState(models.TextChoices):
    """How far the hand-over of a context is, on one of its two databases."""

    COPYING = "copying", _("copying")
    """On the new database: rows come in, and nobody else may write."""
    MOVED = "moved", _("moved")
    """On the new database: everything is there, and nobody else may write yet."""
    OPEN = "open", _("open")
    """On the new database: the context lives here."""
    ABORTING = "aborting", _("aborting")
    """On the new database: the hand-over is being taken back."""
    CLOSING = "closing", _("closing")
    """On the old database: no mover works any more."""
    CLOSED = "closed", _("closed")
    """On the old database: nobody can write any more."""
    LEFT = "left", _("left")
    """On the old database: the context lives elsewhere."""


class Transfer(models.Model):
    """The hand-over of a context to another database: a row on each of the two."""

    id = models.BigAutoField(primary_key=True)
    context = models.CharField(max_length=50, unique=True)
    number = models.UUIDField()
    """The same on both databases."""
    state = models.CharField(max_length=8, choices=TransferState)
    other = models.CharField(max_length=200)
    """Alias of the other database, as the process that began it calls it."""
    writing = models.BooleanField(default=False)
    """True within a transaction that copies, and so only seen there: it may pass the guard."""
    details = models.JSONField(default=dict)
    """What has to be remembered: shifts of ids, partitions that were paused, what was verified."""
    changed_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("transfer")

    def __str__(self) -> str:
        return f"{self.context}: {self.state}"


def table(model: type[models.Model]) -> str:
    """Return the name of a model's table, for the raw statements."""
    options: Any = model._meta
    return str(options.db_table)
