"""Let the bounded contexts of one Django project talk through events, via outbox and inbox.

This module holds the public names. It imports no models, so that every ``models.py`` and
``apps.py`` may import it, whatever the order of INSTALLED_APPS.
"""

from .events import DomainEvent, IntegrationEvent
from .events.decorators import handles, inbound, outbound, upcasts
from .events.envelope import Envelope
from .exceptions import (
    ConcurrencyError,
    DuplicateMessage,
    InvalidEvent,
    NotInAtomicBlock,
    OutboxInboxError,
    PermanentError,
)
from .outbox import cancel, record

__all__ = [
    "ConcurrencyError",
    "DomainEvent",
    "DuplicateMessage",
    "Envelope",
    "IntegrationEvent",
    "InvalidEvent",
    "NotInAtomicBlock",
    "OutboxInboxError",
    "PermanentError",
    "cancel",
    "handles",
    "inbound",
    "outbound",
    "record",
    "upcasts",
]
