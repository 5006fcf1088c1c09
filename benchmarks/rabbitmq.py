"""RabbitMQ: out of an outbox with confirmations, against Redis and against publishing without any.

The bare sides use psycopg and kombu's AMQP driver directly, with the same statements, the same
messages and batches of the same size.
"""

import atexit
import os
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.test import override_settings

from benchmarks import redis_streams
from benchmarks.bare_outbox import connect_psycopg, locked_batch, refill_outbox
from benchmarks.harness import Comparison, Work
from benchmarks.redis_streams import bare_relay
from outbox_inbox.contexts import get_context
from outbox_inbox.outbox.relay import relay_outbox
from outbox_inbox.transports import transport

_PREFIX: Final = f"bench-outbox-inbox-{os.getpid()}"
_QUEUE: Final = f"{_PREFIX}-inbox.branch"
_EXCHANGE: Final = f"{_PREFIX}.mall"

Send = Callable[[Any, Any, str], None]


def unavailable_reason() -> str | None:
    """Return why nothing here can be measured, or None."""
    from kombu.exceptions import OperationalError

    try:
        with _rabbit() as server:
            server.connect()
    except (OperationalError, OSError) as error:
        return f"RabbitMQ does not answer: {error}"
    return redis_streams.unavailable_reason()


def our_relay(count: int) -> Work:
    """Return the work of the relay."""
    refill_outbox(count)
    _empty_queue()

    def work() -> int:
        with override_settings(OUTBOX_INBOX=_deployment()):
            return relay_outbox(get_context("mall")).done

    return work


def unconfirmed(count: int) -> Work:
    """Return the work of SELECT … FOR UPDATE, basic.publish without confirmation, and UPDATE."""

    def send(channel: Any, message: Any, kind: str) -> None:
        channel.basic_publish(message, _EXCHANGE, kind)

    return _bare(count, send)


def confirmed_each(count: int) -> Work:
    """Return the same work, waiting for a confirmation after each message, as kombu does."""

    def send(channel: Any, message: Any, kind: str) -> None:
        channel.basic_publish_confirm(message, _EXCHANGE, kind, mandatory=True)

    return _bare(count, send)


def _bare(count: int, send: Send) -> Work:
    refill_outbox(count)
    _empty_queue()
    database, server = connect_psycopg(), _rabbit()
    channel = server.default_channel

    def work() -> int:
        done = 0
        while sent := _send_batch(database, channel, send):
            done += sent
        database.close()
        server.release()
        return done

    return work


def _send_batch(database: Any, channel: Any, send: Send) -> int:
    from amqp.basic_message import Message

    with locked_batch(database) as rows:
        for _, id_, type_, version, key, payload, correlation, time in rows:
            kind = f"{type_}.v{version}"
            headers = {
                "cloudEvents:specversion": "1.0",
                "cloudEvents:id": str(id_),
                "cloudEvents:source": "/mall",
                "cloudEvents:type": kind,
                "cloudEvents:time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
                "cloudEvents:correlationid": str(correlation),
                "cloudEvents:subject": key,
                "cloudEvents:partitionkey": key,
            }
            message = Message(
                payload.encode(),
                content_type="application/json",
                message_id=str(id_),
                delivery_mode=2,
                application_headers=headers,
            )
            send(channel, message, kind)
        return len(rows)


def _empty_queue() -> None:
    """Create the exchange and the queue, unless they exist, and empty the queue."""
    with override_settings(OUTBOX_INBOX=_deployment()):
        branch = get_context("branch")
        with transport("amqp").attached(branch):
            transport("amqp").receive(branch, 1)
    atexit.register(_delete)
    with _rabbit() as server:
        server.default_channel.queue_purge(_QUEUE)


def _delete() -> None:
    atexit.unregister(_delete)
    with _rabbit() as server:
        server.default_channel.queue_delete(_QUEUE)
        server.default_channel.exchange_delete(_EXCHANGE)


def _rabbit() -> Any:
    import kombu

    return kombu.Connection(_url())


def _url() -> str:
    return os.environ.get("TEST_AMQP_URL") or "amqp://guest:guest@127.0.0.1:5672//"


def _deployment() -> dict[str, Any]:
    """Return OUTBOX_INBOX with RabbitMQ instead of Redis."""
    given: dict[str, Any] = settings.OUTBOX_INBOX
    options = {"PREFIX": _PREFIX, "QUEUE_PREFIX": f"{_PREFIX}-inbox"}
    rabbit = {"LOCATION": _url(), "OPTIONS": options}
    return {
        **given,
        "TRANSPORTS": {**given["TRANSPORTS"], "amqp": rabbit},
        "CONTEXTS": {"mall": {"transport": "amqp"}, "branch": {"transport": "amqp"}},
    }


BENCHMARKS: Final = (
    Comparison(
        name="relay-amqp",
        title="relay to RabbitMQ, confirmed, against raw SELECT, pipelined XADD to Redis and UPDATE",
        unit="messages",
        bare=bare_relay,
        ours=our_relay,
        target=5 / 30,
        size=10_000,
        turns=2,
    ),
    Comparison(
        name="relay-amqp-unconfirmed",
        title="the same against raw SELECT, publishing without confirmation, and UPDATE",
        unit="messages",
        bare=unconfirmed,
        ours=our_relay,
        against="unconfirmed",
        target=0.60,
        size=10_000,
        turns=2,
    ),
    Comparison(
        name="relay-amqp-each",
        title="the same against raw SELECT, publishing with a confirmation each, and UPDATE",
        unit="messages",
        bare=confirmed_each,
        ours=our_relay,
        against="confirmed each",
        target=4.0,
        size=2_000,
        turns=2,
    ),
)
