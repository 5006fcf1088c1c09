"""The project deployed twice: ordering with the shop, shipping with the depot, and a broker between.

Each deployment has its own database and its own processes, and knows the other by messages only.
"""

import secrets
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kombu
import redis

from tests.acceptance.conftest import PATIENCE, WORKER, Processes
from tests.acceptance.orders import Orders, expected, figures
from tests.acceptance.store import Stores

LABELS = "ordering", "shipping"
PUBLISHERS = "ordering", "shipping", "shop"
SUBSCRIBERS = "ordering", "shipping", "depot"


class Between(ABC):
    """The broker, and what is still under way in it.

    Attributes:
        url: where it is.
        prefix: begins all names of the test's at the broker.
        subscribers: the contexts that receive over it.
    """

    def __init__(self, url: str, subscribers: Sequence[str] = SUBSCRIBERS) -> None:
        self.url = url
        self.subscribers = subscribers
        self.prefix = f"test-{secrets.token_hex(4)}"

    @abstractmethod
    def left(self) -> int:
        """Return how many messages not every context they are for has acknowledged."""

    @abstractmethod
    def remove(self) -> None:
        """Remove what the test has left there."""


class RedisBetween(Between):
    """Redis Streams."""

    def left(self) -> int:
        with redis.Redis.from_url(self.url) as client:
            streams = list(client.scan_iter(f"{self.prefix}:*"))
            groups = [group for stream in streams for group in client.xinfo_groups(stream)]
        assert groups
        return sum(group["pending"] + group["lag"] for group in groups)

    def remove(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            for stream in client.scan_iter(f"{self.prefix}:*"):
                client.delete(stream)


class RabbitBetween(Between):
    """RabbitMQ; what a worker has received and not acknowledged is not counted."""

    def left(self) -> int:
        with kombu.Connection(self.url) as connection:
            queues = [self._name(label) for label in self.subscribers]
            channel = connection.default_channel
            return sum(channel.queue_declare(name, passive=True)[1] for name in queues)

    def remove(self) -> None:
        with kombu.Connection(self.url) as connection:
            for label in SUBSCRIBERS:
                connection.default_channel.queue_delete(self._name(label))
            for label in PUBLISHERS:
                connection.default_channel.exchange_delete(self._name(label))

    def _name(self, label: str) -> str:
        return f"{self.prefix}.{label}"


@contextmanager
def between_at(url: str, subscribers: Sequence[str] = SUBSCRIBERS) -> Iterator[Between]:
    """Yield the broker of a URL; remove what is left there in the end."""
    kind = RedisBetween if url.startswith("redis") else RabbitBetween
    broker = kind(url, subscribers)
    yield broker
    broker.remove()


@dataclass
class Apart:
    """Both deployments and what is between them.

    Fields:
        folder: where workers write what they have to say.
    """

    stores: Stores
    between: Between
    ordering: Processes
    shipping: Processes
    folder: Path

    @property
    def deployments(self) -> tuple[Processes, Processes]:
        """Ordering's processes and shipping's."""
        return self.ordering, self.shipping

    def output(self, processes: Processes) -> Path:
        """Return the file for what the workers of a deployment say."""
        return self.folder / f"{processes.settings['CONTEXTS']}.log"

    def start_workers(self) -> list[Any]:
        """Start a worker of each deployment; return when they run, and every subscriber receives.

        What is published earlier is no loss, but RabbitMQ returns what no queue is bound for, and
        it backs off then. A worker that does not run yet dies of the signal that is to stop it.
        """
        before = self._began()
        workers = [each.start(*WORKER, output=self.output(each)) for each in self.deployments]
        began = wait_for(self._began, lambda began: began == before + len(workers))
        assert began == before + len(workers), self.said()
        missing = wait_for(self.not_receiving, lambda missing: not missing)
        assert not missing, f"not receiving: {missing}\n{self.said()}"
        return workers

    def _began(self) -> int:
        """Return how many workers have said so far that they run."""
        files = [file for each in self.deployments if (file := self.output(each)).exists()]
        return sum(file.read_text().count("Running ") for file in files)

    def not_receiving(self) -> set[str]:
        """Return the subscribers that have never asked the broker, or failed to."""
        asked = (
            "SELECT context FROM outbox_inbox_partition WHERE queue = 'intake'"
            " AND last_run_at IS NOT NULL AND run IS NULL AND outages = 0"
        )
        found = [row for each in self.deployments for row in each.store.query(asked)]
        return set(SUBSCRIBERS) - {label for (label,) in found}

    def place(self, orders: Orders) -> None:
        """Place the orders in one deployment, and dispatch them in the other, at the same time.

        Exit code 3 is no failure: the other side may send, or a message back off, while the command
        looks. Whether all is well in the end is for `wait_until_done` to say.
        """
        both = [
            each.start(
                *orders.command, output=self.folder / f"{each.settings['CONTEXTS']}-orders.log"
            )
            for each in self.deployments
        ]
        for process in both:
            process.communicate(timeout=PATIENCE)
        assert {process.returncode for process in both} <= {0, 3}, self.said()

    def wait_until_done(self, orders: Orders, keys: int, steps: int) -> None:
        """Wait until the figures are what they have to be, with nothing left between the two."""
        wanted = expected(orders, keys, steps)
        found = wait_for(lambda: figures(self.stores), lambda found: found == wanted)
        assert found == wanted, self.said()
        assert wait_for(self.between.left, lambda left: left == 0) == 0

    def said(self) -> str:
        """Return the end of what workers and commands have said."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-3_000:]}" for file in files)

    def end(self) -> None:
        """Kill what is left."""
        for each in self.deployments:
            each.end()


def deployed_apart(stores: Stores, between: Between, folder: Path, **settings: str) -> Apart:
    """Return two deployments on these databases, joined by this broker."""
    joined = {"TRANSPORT_URL": between.url, "TRANSPORT_PREFIX": between.prefix, **settings}
    ordering, shipping = (
        Processes(getattr(stores, label), CONTEXTS=label, **joined) for label in LABELS
    )
    return Apart(stores, between, ordering, shipping, folder)


def wait_for(look: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """Return what a look shows as soon as that is enough, or after `PATIENCE` what it showed last."""
    deadline = time.monotonic() + PATIENCE
    while not enough(found := look()) and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    return found


def stop(workers: list[Any]) -> list[int]:
    """Let workers end in order; return their exit statuses."""
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        worker.communicate(timeout=PATIENCE)
    return [worker.returncode for worker in workers]
