"""Log entries for the signals, on the logger ``outbox_inbox``.

The relay, receiver and dispatcher only send signals. A project that wants other entries calls
`disconnect` and connects receivers of its own.

What a message brings with it, and the text of an exception, may be anything: each entry makes it
visible, on one line and in bounded length (`get_logger`). No entry contains the payload of an event,
and none the values that a database quotes in an error. An exception of a handler is logged with its
text, so it should not quote what must not be in a log; its traceback is in `DeliveryAttempt`.
"""

import logging
import traceback
from collections.abc import Mapping
from functools import partial
from numbers import Number
from types import MappingProxyType
from typing import Any, NamedTuple

from outbox_inbox import signals
from outbox_inbox.signals.escaping import MOST, visible, visible_lines

MOST_OF_ERROR = 1_000
"""Characters of an error that an entry shows; of any other text `MOST`."""
_MOST_OF_TRACEBACK = 20_000


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a name, whose entries show text from outside only as visible text.

    Every module of the package gets its logger here: a new line in the type of a message would
    forge an entry, and an escape sequence would drive the terminal of the reader.
    """
    found = logging.getLogger(name)
    found.addFilter(_make_visible)  # once, also when it is called again
    return found


def _make_visible(record: logging.LogRecord) -> bool:
    arguments = record.args
    if isinstance(arguments, Mapping):
        record.args = {name: _shown(value, name) for name, value in arguments.items()}
    elif arguments:
        record.args = tuple(map(_shown, arguments))
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        # A formatter takes the text that is here already, and does not make its own.
        text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        record.exc_text = visible_lines(text[-_MOST_OF_TRACEBACK:])
    return True


def _shown(value: object, name: str = "error") -> object:
    if value is None or isinstance(value, Number):
        return value
    return visible(value, MOST_OF_ERROR if name == "error" else MOST)


logger = get_logger("outbox_inbox")


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
            "snapshot of '%(stream)s' in %(context)s: ignored at version %(version)d, the stream is "
            "read from its beginning: %(error)s",
        ),
        signals.snapshot_refused: _Entry(
            logging.WARNING,
            "snapshot of '%(stream)s' in %(context)s: not taken at version %(version)d, the stream is "
            "read from its last snapshot or its beginning: %(error)s",
        ),
    }
)
