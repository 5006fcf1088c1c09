import logging as python_logging
import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError

from outbox_inbox import signals
from outbox_inbox.queues.attempts import error_line
from outbox_inbox.signals import logging
from outbox_inbox.signals.escaping import has_invisible

MESSAGE = UUID("01890000-0000-7000-8000-000000000001")
ABOUT = {"context": "shop", "message_id": MESSAGE, "type": "shop.Sold", "key": "7"}
ABOUT_IT = f"message {MESSAGE} (shop.Sold)"
DELIVERY = {**ABOUT, "consumer": "shop.handlers.book"}
ERROR = {"attempts": 3, "error": "ValueError: no"}


@pytest.fixture
def entries(monkeypatch, caplog):
    """What is logged during a test, as (level, text)."""
    monkeypatch.setattr(logging.logger, "propagate", True)
    caplog.set_level(python_logging.DEBUG, logger="outbox_inbox")
    return lambda: [(entry.levelname, entry.getMessage()) for entry in caplog.records]


@pytest.mark.parametrize(
    ("signal", "measures", "level", "text"),
    [
        (
            signals.message_sent,
            {"context": "shop", "partition": 0, "count": 12},
            "DEBUG",
            "outbox partition 0 of shop: 12 messages sent",
        ),
        (
            signals.snapshot_ignored,
            {"context": "shop", "stream": "order-7", "version": 100, "error": "no"},
            "WARNING",
            "snapshot of 'order-7' in shop: ignored at version 100, the stream is read from its "
            "beginning: no",
        ),
        (
            signals.snapshot_refused,
            {"context": "shop", "stream": "order-7", "version": 100, "error": "no"},
            "WARNING",
            "snapshot of 'order-7' in shop: not taken at version 100, the stream is read from its "
            "last snapshot or its beginning: no",
        ),
        (
            signals.message_dead,
            {**ABOUT, **ERROR},
            "ERROR",
            f"outbox of shop: {ABOUT_IT} is dead after 3 attempts: ValueError: no",
        ),
        (
            signals.delivery_failed,
            {**DELIVERY, **ERROR, "delay": timedelta(seconds=2)},
            "WARNING",
            f"shop.handlers.book: attempt 3 of {ABOUT_IT} failed, next try in 2.0 s: ValueError: no",
        ),
        (
            signals.delivery_dead,
            {**DELIVERY, **ERROR},
            "ERROR",
            f"shop.handlers.book: {ABOUT_IT} is dead after 3 attempts: ValueError: no",
        ),
        (
            signals.hook_failed,
            {**DELIVERY, "error": "ValueError: no"},
            "ERROR",
            f"shop.handlers.book: an on_commit hook failed after {ABOUT_IT}, which "
            "is done and will not be retried: ValueError: no",
        ),
        (
            signals.message_lost,
            {"context": "depot", "place": "entry 1-0 of events:shop", "error": "it was deleted"},
            "CRITICAL",
            "depot: the transport lost entry 1-0 of events:shop: it was deleted",
        ),
        (
            signals.partition_backed_off,
            {
                "context": "shop",
                "queue": "outbox",
                "partition": 0,
                "error": "TransportUnavailable: down",
                "delay": timedelta(seconds=4),
            },
            "WARNING",
            "outbox partition 0 of shop: an outage, next try in 4.0 s "
            "(no attempt counted): TransportUnavailable: down",
        ),
    ],
)
def test_entries(entries, signal, measures, level, text):
    """Each signal is one entry that says what happened to what."""
    signal.send_robust("shop", **measures)
    assert entries() == [(level, text)]


def test_connected_once(entries):
    """Connecting twice, as a second ready() does, doubles no entry."""
    logging.connect()
    signals.message_sent.send_robust("shop", context="shop", partition=0, count=1)
    assert len(entries()) == 1


def test_disconnected(entries):
    """Who wants other entries can take these off."""
    logging.disconnect()
    try:
        signals.message_sent.send_robust("shop", context="shop", partition=0, count=1)
    finally:
        logging.connect()
    assert entries() == []


# Text from outside

HOSTILE = "x\n2030-01-01 CRITICAL all is lost\x1b[2J\x9b\u202e\u200b\0"
SHOWN = r"x\n2030-01-01 CRITICAL all is lost\x1b[2J\x9b\u202e\u200b\x00"


def fail():
    """Raise an error whose text is from outside."""
    raise ValueError(HOSTILE)


def formatted(caplog):
    """Return the entries as a handler writes them."""
    return [python_logging.Formatter("%(message)s").format(each) for each in caplog.records]


@pytest.mark.parametrize(
    "signal", [*logging._ENTRIES], ids=lambda each: logging._ENTRIES[each].text[:20]
)
def test_no_log_entry_has_text_from_outside_raw(entries, caplog, signal):
    """Whichever measure it comes in: one line, in which every character is visible."""
    numbers = dict.fromkeys(("count", "attempts", "partition", "version"), 1)
    names = re.findall(r"%\((\w+)\)s", logging._ENTRIES[signal].text)
    measures = {**dict.fromkeys(names, HOSTILE), **numbers, "delay": timedelta(seconds=1)}
    signal.send_robust("shop", **measures)
    (line,) = formatted(caplog)
    assert not has_invisible(line)
    assert "\n" not in line
    assert line.count(SHOWN) == len(names)


def test_an_entry_is_bounded(entries, caplog):
    """A type of a megabyte is not a line of a megabyte."""
    measures = dict.fromkeys(("source", "type", "message_id", "reason", "error"), "x" * 1_000_000)
    signals.message_quarantined.send_robust("shop", context="shop", **measures)
    assert len(formatted(caplog)[0]) < 3_000


@pytest.mark.parametrize("name", ["inbox", "outbox", "streams", "interests", "redis", "amqp"])
def test_a_logger_of_a_module_shows_only_visible_text(entries, caplog, name):
    """Also where no signal is sent, and with a traceback."""
    with pytest.raises(ValueError, match="lost") as raised:
        fail()
    logger = logging.get_logger(f"outbox_inbox.{name}")
    logger.error("%s %d", HOSTILE, 1, exc_info=raised.value)
    (text,) = formatted(caplog)
    assert text.startswith(f"{SHOWN} 1\nTraceback")
    assert text.endswith(
        r"ValueError: x" "\n" r"2030-01-01 CRITICAL all is lost\x1b[2J\x9b\u202e\u200b\x00"
    )
    assert not has_invisible(text)


def test_an_error_of_a_database_is_told_without_the_values_of_the_row():
    """The log is read by more people than the traceback."""
    postgresql = (
        'duplicate key violates "person_email_key"\nDETAIL:  Key (email)=(jane@doe) already exists.'
    )
    mysql = (1062, "Duplicate entry 'jane@d'oe' for key 'email'")
    assert "jane" not in error_line(IntegrityError(postgresql)) + error_line(IntegrityError(*mysql))
    assert error_line(IntegrityError(*mysql)) == (
        """IntegrityError: (1062, "Duplicate entry (not shown) for key 'email'")"""
    )


def test_an_error_is_one_visible_line():
    """Wherever it is stored, sent or printed."""
    assert (
        error_line(ValueError(HOSTILE))
        == r"ValueError: x 2030-01-01 CRITICAL all is lost\x1b[2J\x9b\u202e\u200b\x00"
    )
    assert len(error_line(ValueError("x" * 1_000_000))) == 1_000
