"""Signals of the relay, receiver, dispatcher and projections, for logging, metrics and health checks.

Every signal is sent with ``send_robust`` after the commit of what it reports: a receiver that
raises cannot undo or repeat anything, and nothing is reported that was rolled back. After a crash
between the commit and the signal, the signal is missing: count rows, not signals, where the figure
must be exact. ``sender`` is the label of the context.

======================  ==================  ==================================================
signal                  sent when           measures
======================  ==================  ==================================================
message_sent            the relay has sent  ``context: str``, ``partition: int``,
                        a batch             ``count: int`` (messages of the batch)
message_dead            an outbox message   ``context: str``, ``message_id: UUID``,
                        is dead             ``type: str``, ``key: str | None``,
                                            ``attempts: int``, ``error: str``
delivery_failed         an attempt failed,  ``context: str``, ``consumer: str``,
                        and will be retried ``message_id: UUID``, ``type: str``,
                                            ``key: str | None``, ``attempts: int``,
                                            ``error: str``, ``delay: timedelta``
delivery_dead           a delivery is dead  ``context: str``, ``consumer: str``,
                                            ``message_id: UUID``, ``type: str``,
                                            ``key: str | None``, ``attempts: int``,
                                            ``error: str``
hook_failed             an on_commit hook   ``context: str``, ``consumer: str``,
                        of a consumer       ``message_id: UUID``, ``type: str``,
                        raised; everything  ``key: str | None``, ``error: str``
                        is stored
message_quarantined     a received message  ``context: str``, and as the message says
                        was quarantined     ``source: str``, ``type: str``,
                                            ``message_id: str``; ``reason: str``,
                                            ``error: str``
message_lost            the transport lost  ``context: str``, ``place: str``,
                        a message before    ``error: str``
                        it was stored
source_unreadable       a source of an      ``context: str``, ``place: str``,
                        intake cannot be    ``error: str``
                        read; the others
                        are
partition_backed_off    an outage: the      ``context: str``, ``queue: str``,
                        transport or the    ``partition: int``, ``error: str``,
                        database cannot     ``delay: timedelta`` (until the next try)
                        take messages; no
                        message is lost
database_read_only      a context's         ``context: str``, ``database: str`` (alias),
                        database can be     ``error: str``
                        read, but not
                        written; sent once,
                        until it can be
                        written again
projection_failed       a projection failed ``context: str``, ``projection: str``,
                        on an event and     ``error: str``, ``delay: timedelta``
                        backs off; no event (until the next try)
                        is skipped
snapshot_ignored        a snapshot cannot   ``context: str``, ``stream: str``,
                        be used, and the    ``version: int``, ``error: str``
                        stream is read
                        from its beginning
snapshot_refused        a snapshot is due,  ``context: str``, ``stream: str``,
                        and the state       ``version: int``, ``error: str``
                        cannot be stored;
                        it goes on without
======================  ==================  ==================================================

``error`` is one visible line, ``<ExceptionClass>: <message>``, of at most 1,000 characters; the
traceback is in ``DeliveryAttempt``. The other texts are as the message says, those of a quarantined
one up to 200 characters: a receiver that prints them calls `outbox_inbox.signals.escaping.visible`.
"""

from django.dispatch import Signal

message_sent = Signal()
message_dead = Signal()
delivery_failed = Signal()
delivery_dead = Signal()
hook_failed = Signal()
message_quarantined = Signal()
message_lost = Signal()
source_unreadable = Signal()
partition_backed_off = Signal()
database_read_only = Signal()
projection_failed = Signal()
snapshot_ignored = Signal()
snapshot_refused = Signal()
