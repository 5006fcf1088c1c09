"""Log entries for what the signals tell, on the logger ``outbox_inbox``.

The core itself logs nothing: whoever wants other entries calls `disconnect` and connects
receivers of their own. No entry holds an event's data.
"""

import logging
from functools import partial
from types import MappingProxyType
from typing import Any

from outbox_inbox import signals

logger = logging.getLogger("outbox_inbox")


def connect() -> None:
    """Connect a receiver to each signal; a second call changes nothing."""
    for signal, receiver in _RECEIVERS.items():
        signal.connect(receiver, weak=False, dispatch_uid=__name__)


def disconnect() -> None:
    """Take the receivers off, so that nothing is logged."""
    for signal in _RECEIVERS:
        signal.disconnect(dispatch_uid=__name__)


def _log(level: int, text: str, /, **measures: Any) -> None:
    if "delay" in measures:
        measures["seconds"] = measures["delay"].total_seconds()
    logger.log(level, text, measures)


_RECEIVERS = MappingProxyType(
    {
        signals.message_sent: partial(
            _log, logging.DEBUG, "%(context)s sent %(count)d messages from partition %(partition)d"
        ),
        signals.message_dead: partial(
            _log,
            logging.ERROR,
            "%(context)s cannot send message %(message_id)s (%(type)s), which is dead "
            "after %(attempts)d attempts: %(error)s",
        ),
        signals.delivery_failed: partial(
            _log,
            logging.WARNING,
            "%(consumer)s failed on message %(message_id)s (%(type)s), attempt %(attempts)d, "
            "next after %(delay)s: %(error)s",
        ),
        signals.delivery_dead: partial(
            _log,
            logging.ERROR,
            "%(consumer)s failed on message %(message_id)s (%(type)s), which is dead "
            "after %(attempts)d attempts: %(error)s",
        ),
        signals.hook_failed: partial(
            _log,
            logging.ERROR,
            "an on_commit hook of %(consumer)s failed after message %(message_id)s (%(type)s), "
            "which is done and will not be repeated: %(error)s",
        ),
        signals.message_quarantined: partial(
            _log,
            logging.ERROR,
            "%(context)s keeps message %(message_id)s (%(type)s) of %(source)s aside, "
            "%(reason)s: %(error)s",
        ),
        signals.message_lost: partial(
            _log,
            logging.CRITICAL,
            "%(context)s has lost %(place)s: %(error)s",
        ),
        signals.projection_failed: partial(
            _log,
            logging.ERROR,
            "projection %(projection)s of %(context)s: failed, next try in %(seconds).1f s "
            "(no event is skipped): %(error)s",
        ),
        signals.partition_backed_off: partial(
            _log,
            logging.WARNING,
            "%(queue)s partition %(partition)d of %(context)s: transport unavailable, "
            "next try in %(seconds).1f s (no attempt counted): %(error)s",
        ),
        signals.snapshot_ignored: partial(
            _log,
            logging.WARNING,
            "%(context)s ignores the snapshot of %(stream)r at version %(version)d, and reads the "
            "stream from its beginning: %(error)s",
        ),
    }
)
