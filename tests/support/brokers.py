"""Brokers of the tests' own, to be killed and restarted: no other program is connected to them.

Each has a free port of the loopback interface and a temporary folder, and keeps both over restarts.
They end with their ``with`` block or fixture, at the latest with this process, however that ends.
"""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests import services

from .proxy import Proxy
from .serving import Server, free_port

__all__ = ["Proxy", "RabbitServer", "RedisServer", "Server", "free_port", "self_signed"]


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a name that is its own authority; return it and its key."""
    files = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName={name} -out {files[0]} -keyout {files[1]}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return files


class RedisServer(Server):
    """A redis-server.

    Arguments:
        durable: write each command to disk before it is answered (AOF, ``appendfsync always``), so
            that a kill loses nothing that was confirmed; otherwise it forgets all at its end.
        options: further options of the server, as on its command line, without the dashes.
    """

    def __init__(self, *, durable: bool = True, **options: str) -> None:
        super().__init__()
        self.durable = durable
        self.options = options

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def empty(self) -> None:
        """Remove all that is in it."""
        with self.client() as client:
            client.flushall()

    def client(self) -> Any:
        """Return a client that gives up soon; use it as a context manager."""
        import redis

        return redis.Redis.from_url(
            self.url, socket_timeout=services.PATIENCE, socket_connect_timeout=services.PATIENCE
        )

    def _launch(self) -> None:
        given = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "always",
            "daemonize": "no",
            **{name.replace("_", "-"): value for name, value in self.options.items()},
        }
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        self._spawn(services.REDIS_SERVER.url, *arguments)

    def _greet(self) -> None:
        with self.client() as client:
            client.ping()


class RabbitServer(Server):
    """A RabbitMQ node, with a port mapper (epmd) of its own, so that no other node knows of it.

    It takes some seconds to start, so that there should be one in a run of tests.
    """

    patience = 90

    def __init__(self) -> None:
        super().__init__()
        self._paused = False
        self.ports = {"RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(free_port())}
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # Files that root has written could not be read by tools that become rabbitmq.
            shutil.chown(self.folder, "rabbitmq", "rabbitmq")
            self.user = {"user": "rabbitmq", "group": "rabbitmq", "extra_groups": []}
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text(
            "disk_free_limit.absolute = 50MB\nraft.wal_max_size_bytes = 16000000\n"
        )
        (self.folder / "nothing.conf").write_text("")

    @property
    def url(self) -> str:
        """The URL of the virtual host ``/``."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def control(self, command: str) -> str:
        """Run a command of rabbitmqctl, such as ``stop_app``, and return what it said."""
        tool = Path(services.RABBITMQ_SERVER.url).parent / "rabbitmqctl"
        return subprocess.run(
            [str(tool), *shlex.split(command)],
            env=self._environment(),
            cwd=self.folder,
            capture_output=True,
            check=True,
            text=True,
            timeout=self.patience,
            **self.user,
        ).stdout

    def start(self) -> None:
        """See `Server.start`; a broker that is paused within its node is resumed."""
        super().start()
        if self._paused:
            self.control("start_app")
            self._paused = False
            self._wait(self._answers, "it does not answer")

    def kill(self) -> None:
        """See `Server.kill`."""
        super().kill()
        self._paused = False

    def pause(self) -> None:
        """Stop the broker within its node until `start`; nothing is killed, and it is quicker."""
        self.control("stop_app")
        self._paused = True

    def settle(self) -> None:
        """Have it write down which queues there are, before it is killed.

        The directory of quorum queues is only written when it has been left alone for up to a second.
        A queue that was declared since has no leader after kill -9, and takes nothing any more. The
        transport waits for that before it binds one; most tests do not (`patient`).
        """
        self.control("eval '[dets:sync(Table) || Table <- dets:all()].'")

    def restart(self) -> None:
        """See `Server.restart`; the queues that were declared last are there afterwards."""
        self.settle()
        super().restart()

    def delete(self, queues: Iterable[str], exchanges: Iterable[str]) -> None:
        """Delete queues and exchanges, whether they exist or not."""
        import kombu

        with kombu.Connection(self.url, connect_timeout=services.PATIENCE) as connection:
            for queue in queues:
                connection.default_channel.queue_delete(queue)
            for exchange in exchanges:
                connection.default_channel.exchange_delete(exchange)

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return self.ports | {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": folder,  # with a cookie of its own
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/nothing.conf",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _launch(self) -> None:
        environment = self._environment()
        options = {"env": environment, **self.user}
        self._spawn(str(_epmd()), "-port", self.ports["ERL_EPMD_PORT"], **options)
        self._spawn(services.RABBITMQ_SERVER.url, **options)

    def _greet(self) -> None:
        # The first words of AMQP 0-9-1; a library would wait two seconds before it asks again.
        with socket.create_connection(("127.0.0.1", self.port), services.PATIENCE) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            if client.recv(1) != b"\x01":  # a frame with a method: Connection.Start
                raise ConnectionError("it does not speak AMQP")


def _epmd() -> Path:
    """Return Erlang's port mapper, which is not on the PATH everywhere."""
    erl = shutil.which("erl")
    found = sorted(Path(erl).resolve().parents[1].glob("erts-*/bin/epmd")) if erl else []
    if not found:
        raise FileNotFoundError("no epmd: is Erlang installed, and erl on the PATH?")
    return found[-1]
