import logging as python_logging
from datetime import timedelta
from uuid import UUID

import pytest

from outbox_inbox import signals
from outbox_inbox.signals import logging

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
