"""kill -9 of a receiver at each of its steps, over real brokers: the inbox has all, once, in order."""

import json
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from outbox_inbox.conf.faults import POINTS
from tests.acceptance.apart import Between, between_at
from tests.acceptance.conftest import Processes
from tests.acceptance.store import Store

KEYS, STEPS, BATCH = 3, 12, 4
# With the second batch under way, so that one before it has been acknowledged.
STEPS_OF_A_RECEIVER = sorted(point for point in POINTS if point.startswith("receive."))
RECEIVE = ("manage.py", "receive_messages", "--context", "depot")

PUBLISH = f"""
from tests.acceptance.steps import write
from outbox_inbox.contexts import get_context
from outbox_inbox.operations import drain
write({KEYS}, {STEPS})
drain([get_context("shop")], ["relay", "dispatch"])
"""


@pytest.fixture(
    params=[
        pytest.param("redis_url", marks=pytest.mark.redis, id="redis"),
        pytest.param("amqp_url", marks=pytest.mark.rabbitmq, id="rabbitmq"),
    ]
)
def between(request: pytest.FixtureRequest) -> Iterator[Between]:
    """The broker."""
    with between_at(request.getfixturevalue(request.param), ["depot"]) as broker:
        yield broker


@pytest.fixture
def receivers(between: Between, new_store: Callable[[], Store]) -> Iterator[Processes]:
    """Processes of a project whose contexts are joined by the broker, in small batches."""
    found = Processes(
        new_store(),
        TRANSPORT_URL=between.url,
        TRANSPORT_PREFIX=between.prefix,
        OUTBOX_INBOX_BATCH_SIZE=str(BATCH),
    )
    yield found
    found.end()


def received(store: Store) -> dict[str, list[int]]:
    """Return key -> the numbers of its steps in the depot's inbox, in the order of their arrival."""
    found: dict[str, list[int]] = defaultdict(list)
    rows = "SELECT payload FROM outbox_inbox_inboxmessage WHERE context = 'depot' ORDER BY id"
    for (payload,) in store.query(rows):
        step = json.loads(payload) if isinstance(payload, str) else payload
        found[step["order"]].append(step["number"])
    return found


def test_a_receiver_killed_at_each_step_loses_and_repeats_nothing(
    receivers: Processes, between: Between
) -> None:
    """What is acknowledged has been committed, and what was not acknowledged comes again, in its place."""
    receivers.succeed("-c", PUBLISH)
    for point in STEPS_OF_A_RECEIVER:
        status, printed = receivers.run(*RECEIVE, faults=f"{point}:kill@2")
        assert status == -signal.SIGKILL, printed
        receivers.store.forget_workers()
    assert between.left() > BATCH, "there has to be something to be lost"
    receivers.succeed(*RECEIVE)
    assert received(receivers.store) == {str(key): [*range(1, STEPS + 1)] for key in range(KEYS)}
    assert between.left() == 0
