"""What the movers announce, so that logging, metrics and health can listen without the core.

Every signal is sent with ``send_robust`` after the commit of what it tells: a receiver that
raises cannot undo or repeat anything, and nothing is announced that was rolled back. After a
crash between commit and announcement the signal is missing: count rows, not signals, where the
figure has to be exact. ``sender`` is the label of the context.

======================  ==================  ==================================================
signal                  sent when           measures
======================  ==================  ==================================================
message_sent            the relay has sent  ``context: str``, ``partition: int``,
                        a batch             ``count: int`` (messages of the batch)
message_dead            an outbox message   ``context: str``, ``message_id: UUID``,
                        has become dead     ``type: str``, ``key: str | None``,
                                            ``attempts: int``, ``error: str``
delivery_failed         an attempt failed,  ``context: str``, ``consumer: str``,
                        another will come   ``message_id: UUID``, ``type: str``,
                                            ``key: str | None``, ``attempts: int``,
                                            ``error: str``, ``delay: timedelta``
delivery_dead           a delivery has      ``context: str``, ``consumer: str``,
                        become dead         ``message_id: UUID``, ``type: str``,
                                            ``key: str | None``, ``attempts: int``,
                                            ``error: str``
hook_failed             an on_commit hook   ``context: str``, ``consumer: str``,
                        of a consumer       ``message_id: UUID``, ``type: str``,
                        raised; everything  ``key: str | None``, ``error: str``
                        is stored
message_quarantined     a message from      ``context: str``, and as its sender calls them
                        outside was kept    ``source: str``, ``type: str``,
                        aside               ``message_id: str``; ``reason: str``,
                                            ``error: str``
message_lost            a message was gone  ``context: str``, ``place: str``,
                        from its transport  ``error: str``
                        before it could be
                        stored
partition_backed_off    a transport is out  ``context: str``, ``queue: str``,
                        of reach; nothing   ``partition: int``, ``error: str``,
                        is lost             ``delay: timedelta`` (until the next trial)
projection_failed       a projection failed ``context: str``, ``projection: str``,
                        on an event; it     ``error: str``, ``delay: timedelta``
                        rests, and nothing  (until the next trial)
                        is passed over
snapshot_ignored        a snapshot was      ``context: str``, ``stream: str``,
                        passed over and     ``version: int``, ``error: str``
                        the stream read
                        from its beginning
======================  ==================  ==================================================

``error`` is one line, ``<ExceptionClass>: <message>``; the traceback is in ``DeliveryAttempt``.
"""

from django.dispatch import Signal

message_sent = Signal()
"""The relay has sent a batch and committed it."""

message_dead = Signal()
"""An outbox message has used up its attempts, or was refused for good."""

delivery_failed = Signal()
"""A consumer failed on a message; the delivery is ready again after a delay."""

delivery_dead = Signal()
"""A consumer has failed on a message for good; a person has to retry or discard it."""

hook_failed = Signal()
"""A hook that a consumer registered with on_commit raised; the delivery is done all the same."""

message_quarantined = Signal()
"""A message from outside cannot be read; it was kept aside, and the others go on."""

message_lost = Signal()
"""Something was on its way to a context, and its transport does not have it any more."""

partition_backed_off = Signal()
"""A transport could not be reached; the partition rests, and no attempt is counted."""

projection_failed = Signal()
"""A projection failed on an event; it is tried again after a delay, and passes nothing over."""

snapshot_ignored = Signal()
"""A snapshot cannot be read, or is none of its stream; the stream itself was read instead."""
