"""Real Celery processes on real brokers: they may be doubled, killed, or sleep, and do no harm."""

from uuid import uuid4

import kombu
import pytest

from tests.acceptance.conftest import Processes, new_store, processes  # noqa: F401  fixtures
from tests.support.movers import eventually

KEYS, STEPS = 4, 5
CONSUMERS = 5  # with effects of each step: note, count, enlist; pick, watch

BROKERS = [
    pytest.param("redis_url", marks=pytest.mark.redis),
    pytest.param("amqp_url", marks=pytest.mark.rabbitmq),
]


class Cluster:
    """Celery processes that share a broker and a database."""

    def __init__(self, processes, broker, folder):  # noqa: F811
        self.processes = processes
        self.store = processes.store
        self.folder = folder
        self.started = []
        self.queue = f"outbox_inbox-test-{uuid4().hex}"
        self.settings = {
            "DJANGO_SETTINGS_MODULE": "tests.integration.worker_settings",
            "CELERY_BROKER_URL": broker,
            "TEST_QUEUE": self.queue,
        }

    def start(self, *arguments, **settings):
        """Start a Celery process."""
        process = self.processes.start(
            "-m", "celery", "-A", "project", *arguments, **self.settings, **settings
        )
        self.started.append(process)
        return process

    def worker(self, **settings):
        """Start a worker, and wait until it takes tasks."""
        name = uuid4().hex
        log = self.folder / name
        worker = self.start(
            *("worker", "--pool=solo", "-n", f"{name}@test"),
            *("--without-mingle", "--without-gossip"),
            *("-l", "INFO", "-f", str(log)),
            **settings,
        )
        eventually(lambda: log.exists() and "ready." in log.read_text(), "the worker is ready")
        return worker

    def beat(self):
        """Start a beat."""
        schedule = str(self.folder / uuid4().hex)
        return self.start("beat", "--pidfile=", "-s", schedule, "-l", "ERROR")

    def record(self):
        """Record steps of several keys, in a process that nudges; an earlier call's are there."""
        self.processes.succeed(
            "-m", "tests.acceptance.steps", f"{KEYS}", f"{STEPS}", **self.settings
        )

    def wait_until_done(self):
        """Wait until every step has had all its effects, and nothing is left in the queues."""
        wanted = KEYS * STEPS * CONSUMERS
        eventually(
            lambda: sum(map(len, self.store.ledger().values())) >= wanted, f"{wanted} effects"
        )
        eventually(lambda: self.store.unfinished() == 0, "nothing is left")

    def check(self):
        """Check that each consumer had each step of each key once, in order."""
        ledger = self.store.ledger()
        assert len(ledger) == KEYS * CONSUMERS
        for effects in ledger.values():
            assert effects == list(range(1, STEPS + 1))


@pytest.fixture(params=BROKERS)
def cluster(request, processes, tmp_path):  # noqa: F811
    """Celery processes on one of the brokers."""
    broker = request.getfixturevalue(request.param)
    found = Cluster(processes, broker, tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()
    with kombu.Connection(broker) as connection:
        kombu.Queue(found.queue, channel=connection.default_channel).delete()


def test_two_beats_and_three_workers_do_no_harm(cluster):
    """Every tick comes twice and overlaps with others; each effect happens once, in order."""
    for _ in range(3):
        cluster.worker()
    cluster.beat()
    cluster.beat()
    cluster.record()
    cluster.wait_until_done()
    cluster.check()


def test_a_worker_that_is_killed_costs_nothing(cluster):
    """What it was doing is done again by another one, which the beat wakes up."""
    doomed = cluster.worker(OUTBOX_INBOX_FAULTS="dispatch.after_handler:kill@7")
    cluster.beat()
    cluster.record()
    assert doomed.wait(60) != 0
    cluster.worker()
    cluster.wait_until_done()
    cluster.check()


def test_nudges_alone_bring_everything_through(cluster):
    """Without a beat, each commit wakes up who goes on."""
    cluster.worker()
    cluster.record()
    cluster.wait_until_done()
    cluster.check()
