"""A deployment's mistake, or a broker that refuses: the next message would meet it as well."""

import re
import socketserver
import threading
from contextlib import contextmanager

import pytest

from outbox_inbox.exceptions import TransportUnavailable
from outbox_inbox.models import OutboxMessage, Partition, Queue
from outbox_inbox.transports.redis.client import Client, command
from tests.shop.contracts import Sold
from tests.support.movers import come_due, put, receive, relay, states, steps

pytestmark = pytest.mark.usefixtures("committed")

REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'xadd' command",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
    "CLUSTERDOWN The cluster is down",
    "ERR max number of clients reached",
]


class Answer(socketserver.BaseRequestHandler):
    """Answers each command with the error of its server, or hangs up."""

    def handle(self):
        while data := self.request.recv(65536):
            if self.server.answer is None:
                return
            for _ in re.findall(rb"(?:^|\r\n)\*\d+\r\n", data):
                self.request.sendall(f"-{self.server.answer}\r\n".encode())


@contextmanager
def listening(answer=None):
    """Yield the port of a server that answers every command with an error; default: that hangs up."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads, server.answer = True, answer
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "entry",
    [
        "rediss://127.0.0.1:{port}/0?ssl_keyfile=/nope",
        "rediss://127.0.0.1:{port}/0?ssl_ca_certs=/nope",
        "redis://nowhere.invalid:{port}/0",
        {"LOCATION": "amqps://127.0.0.1:{port}//", "OPTIONS": {"SSL": {"cacerts": "/x"}}},
        {"LOCATION": "amqps://127.0.0.1:{port}//", "OPTIONS": {"SSL": {"ca_certs": "/nope"}}},
        {"LOCATION": "amqp://nowhere.invalid:{port}//"},
        {"LOCATION": "amqp://127.0.0.1:{port}/" + "v" * 300},
    ],
)
def test_a_wrong_option_costs_no_attempt(settings, entry):
    """Whatever the library raises for it; the partition says what it was."""
    with listening() as port:
        if isinstance(entry, str):
            entry = entry.format(port=port)
        else:
            entry = {**entry, "LOCATION": entry["LOCATION"].format(port=port)}
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": entry}, "MAX_ATTEMPTS": 1}
        put(*steps(Sold, 2))
        for _ in range(2):
            relay()
            come_due()
        with pytest.raises(TransportUnavailable):
            receive()
    assert states() == ["pending", "pending"]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {0}
    row = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert (row.outages, row.error[:21]) == (2, "TransportUnavailable:")


@pytest.mark.parametrize("answer", REFUSALS, ids=lambda text: text.split()[0])
def test_a_redis_that_refuses_costs_no_attempt(settings, answer):
    """Read-only, loading, without memory, rights or connections: with its own words."""
    with listening(answer) as port:
        location = f"redis://127.0.0.1:{port}/0"
        settings.OUTBOX_INBOX = {"TRANSPORTS": {"default": location}, "MAX_ATTEMPTS": 1}
        put(*steps(Sold, 2))
        relay()
        with pytest.raises(TransportUnavailable):
            Client(location).ask_strictly(command("PING"))
    assert states() == ["pending", "pending"]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {0}
    row = Partition.objects.get(context="shop", queue=Queue.OUTBOX)
    assert row.outages == 1
    assert answer.split(maxsplit=1)[1][:20] in row.error
