"""Log entries for the signals, on the logger ``outbox_inbox``.

The relay, receiver and dispatcher only send signals. A project that wants other entries calls
`disconnect` and connects receivers of its own. No entry contains the data of an event.
"""

import logging
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from outbox_inbox import signals

logger = logging.getLogger("outbox_inbox")


def connect() -> None:
    """Connect a receiver to each signal; a second call changes nothing."""
    for signal, entry in _ENTRIES.items():
        signal.connect(partial(_log, *entry), weak=False, dispatch_uid=__name__)


def disconnect() -> None:
    """Disconnect the receivers, so that nothing is logged."""
    for signal in _ENTRIES:
        signal.disconnect(dispatch_uid=__name__)


def _log(level: int, text: str, /, **measures: Any) -> None:
    if "delay" in measures:
        measures["seconds"] = measures["delay"].total_seconds()
    logger.log(level, text, measures)


class _Entry(NamedTuple):
    level: int
    text: str


_ENTRIES = MappingProxyType(
    {
        signals.message_sent: _Entry(
            logging.DEBUG,
            "outbox partition %(partition)d of %(context)s: %(count)d messages sent",
        ),
        signals.message_dead: _Entry(
            logging.ERROR,
            "outbox of %(context)s: message %(message_id)s (%(type)s) is dead after "
            "%(attempts)d attempts: %(error)s",
        ),
        signals.delivery_failed: _Entry(
            logging.WARNING,
            "%(consumer)s: attempt %(attempts)d of message %(message_id)s (%(type)s) failed, "
            "next try in %(seconds).1f s: %(error)s",
        ),
        signals.delivery_dead: _Entry(
            logging.ERROR,
            "%(consumer)s: message %(message_id)s (%(type)s) is dead after "
            "%(attempts)d attempts: %(error)s",
        ),
        signals.hook_failed: _Entry(
            logging.ERROR,
            "%(consumer)s: an on_commit hook failed after message %(message_id)s (%(type)s), "
            "which is done and will not be retried: %(error)s",
        ),
        signals.message_quarantined: _Entry(
            logging.ERROR,
            "inbox of %(context)s: message %(message_id)s (%(type)s) of %(source)s quarantined, "
            "%(reason)s: %(error)s",
        ),
        signals.message_lost: _Entry(
            logging.CRITICAL,
            "%(context)s: the transport lost %(place)s: %(error)s",
        ),
        signals.source_unreadable: _Entry(
            logging.ERROR,
            "intake of %(context)s: %(place)s cannot be read, and its messages wait; what others "
            "there are is read: %(error)s",
        ),
        signals.projection_failed: _Entry(
            logging.ERROR,
            "projection %(projection)s of %(context)s: failed, next try in %(seconds).1f s "
            "(no event is skipped): %(error)s",
        ),
        signals.partition_backed_off: _Entry(
            logging.WARNING,
            "%(queue)s partition %(partition)d of %(context)s: an outage, "
            "next try in %(seconds).1f s (no attempt counted): %(error)s",
        ),
        signals.database_read_only: _Entry(
            logging.ERROR,
            "%(context)s: nothing can be recorded or moved: %(error)s",
        ),
        signals.snapshot_ignored: _Entry(
            logging.WARNING,
            "snapshot of %(stream)r in %(context)s: ignored at version %(version)d, the stream is "
            "read from its beginning: %(error)s",
        ),
        signals.snapshot_refused: _Entry(
            logging.WARNING,
            "snapshot of %(stream)r in %(context)s: not taken at version %(version)d, the stream is "
            "read from its last snapshot or its beginning: %(error)s",
        ),
    }
)
