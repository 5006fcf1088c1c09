"""Longer storms of crashes, with restarts of the server: by other seeds, and more of everything."""

from uuid import uuid4

import pytest

from tests.conformance import test_amqp, test_redis

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("committed")]


@pytest.mark.redis
@pytest.mark.parametrize("seed", range(100, 130))
def test_a_long_storm_over_redis(redis_server, wired, seed):
    """Killed with -9 again and again, with AOF."""
    suite = test_redis.TestRedis()
    with suite.staged(wired(redis_server)):
        suite.storm(seed, messages=80, restarts=8)


@pytest.mark.rabbitmq
@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
@pytest.mark.parametrize("seed", range(100, 105))
def test_a_long_storm_over_rabbitmq(rabbit_server, wired, seed, queue_type):
    """Killed with -9 twice, with both sorts of queues."""
    suite = test_amqp.TestAmqp()
    suite.name, suite.queue_type = uuid4().hex[:8], queue_type
    with suite.staged(wired(rabbit_server)):
        suite.storm(seed, messages=80, restarts=2)
