"""The servers and the wire that other tests rely on: what they keep, lose and cut is what they say."""

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.brokers import Proxy, RedisServer
from tests.support.movers import eventually

LEAVE = """
import os, sys
from tests.support.brokers import RedisServer
server = RedisServer()
server.start()
print(server.port, server.folder, flush=True)
os.kill(os.getpid(), 9)
"""


def connects(port: int) -> bool:
    """Return whether a server listens on a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


@pytest.fixture
def echo():
    """A server that answers each line with itself; returns its port and the lines it received."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(client):
            with suppress(ConnectionError), client, client.makefile("rwb") as lines:
                for line in lines:
                    heard.append(line)
                    lines.write(line)
                    lines.flush()

        def accept():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)


class Line:
    """A connection that says lines and hears the answers."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, line):
        """Return the answer; nothing when the connection has ended."""
        try:
            self.socket.sendall(line)
            return self.socket.recv(100)
        except ConnectionError:
            return b""


@pytest.mark.redis
def test_a_durable_redis_keeps_over_kill_9_what_it_has_confirmed(redis_server):
    """On the same port, from the same folder."""
    with redis_server.client() as client:
        client.set("said", "yes")
    redis_server.restart()
    with redis_server.client() as client:
        assert client.get("said") == b"yes"


@pytest.mark.redis
def test_a_redis_without_aof_forgets_over_kill_9(redis_server):
    """So that a transport's check of the persistence can be tested."""
    with RedisServer(durable=False) as forgetful:
        with forgetful.client() as client:
            client.set("said", "yes")
        forgetful.restart()
        with forgetful.client() as client:
            assert client.get("said") is None


@pytest.mark.redis
def test_a_server_that_is_killed_is_gone_and_one_that_is_closed_leaves_nothing(redis_server):
    """No process, no folder."""
    with RedisServer() as server:
        server.kill()
        assert not connects(server.port)
        server.start()
        assert connects(server.port)
    assert not connects(server.port)
    assert not server.folder.exists()


@pytest.mark.redis
def test_a_server_ends_even_when_the_tests_are_killed(redis_server):
    """Its guard notices that the other end of the pipe is closed."""
    left = subprocess.run(
        [sys.executable, "-c", LEAVE], capture_output=True, check=False, text=True
    )
    port, folder = left.stdout.split()
    eventually(lambda: not connects(int(port)), "the port is closed")
    assert not Path(folder).exists()


@pytest.mark.rabbitmq
def test_a_rabbitmq_that_is_killed_comes_back_with_its_durable_messages(rabbit_server):
    """A confirmed message in a durable queue is there after kill -9."""
    import kombu

    with kombu.Connection(rabbit_server.url, transport_options={"confirm_publish": True}) as client:
        queue = client.SimpleQueue("kept")
        queue.put({"said": "yes"})
        queue.close()
    rabbit_server.restart()
    with kombu.Connection(rabbit_server.url) as client:
        queue = client.SimpleQueue("kept")
        message = queue.get(timeout=5)
        assert message.payload == {"said": "yes"}
        message.ack()
        queue.close()
        client.default_channel.queue_delete("kept")


@pytest.mark.rabbitmq
def test_a_rabbitmq_can_be_paused(rabbit_server):
    """No client can connect until it is started again."""
    rabbit_server.pause()
    assert not connects(rabbit_server.port)
    rabbit_server.start()
    assert connects(rabbit_server.port)


def test_the_proxy_forwards_until_it_is_cut(echo):
    """Connections end, new ones as well; afterwards it forwards again."""
    port, _ = echo
    with Proxy(port) as proxy:
        with Line(proxy.port) as line:
            assert line.ask(b"one\n") == b"one\n"
            with proxy.cut():
                assert line.socket.recv(1) == b""
                with Line(proxy.port) as other:
                    assert other.ask(b"two\n") == b""
        with Line(proxy.port) as line:
            assert line.ask(b"three\n") == b"three\n"


def test_a_hanging_proxy_takes_everything_and_carries_nothing(echo):
    """Until it goes on, with what it was given meanwhile."""
    port, heard = echo
    with Proxy(port) as proxy, Line(proxy.port) as line:
        assert line.ask(b"one\n") == b"one\n"
        with proxy.hanging():
            line.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                line.ask(b"two\n")
            assert heard == [b"one\n"]
        line.socket.settimeout(5)
        assert line.socket.recv(100) == b"two\n"


def test_a_lost_answer_is_lost_after_the_request_has_arrived(echo):
    """Only where the marker is; the connection ends."""
    port, heard = echo
    with Proxy(port) as proxy, Line(proxy.port) as line, Line(proxy.port) as other:
        with proxy.losing_answers(b"two"):
            assert line.ask(b"one\n") == b"one\n"
            assert line.ask(b"two\n") == b""
            assert other.ask(b"three\n") == b"three\n"
        assert heard == [b"one\n", b"two\n", b"three\n"]
        assert proxy.lost == 1
