"""What every test can ask for, which tests run on this database, and what was not reached."""

import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import services

TEST_DATABASE = os.environ.get("TEST_DATABASE") or "sqlite"
VENDORS = ("sqlite", "postgres", "mariadb", "mysql")
# The processes that tests start are the project as it is.
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

MARKED = {
    "redis": services.REDIS,
    "rabbitmq": services.RABBITMQ,
    "browser": services.CHROMIUM,
}
# What MariaDB and MySQL are not offered for, by a marker that says which.
NOT_ON_MYSQL = ("catch_up", "hand_over")

LONG_BATTERY = 3_600  # seconds for one of its tests

# The tests empty the Redis database that they use, so each process of pytest-xdist has its own. The
# processes that tests start inherit it, and must not count down a second time.
os.environ[services.REDIS.variable] = services.redis_url(
    os.environ.pop("PYTEST_XDIST_WORKER", "gw0")
)

# A busy machine is no counterexample. The same examples each time: a change that fails has broken
# something. Those that are up to chance belong to the long battery, and say so themselves.
settings.register_profile(
    "tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need another default database: they have a run of their own.

    Those of the long battery get the time that they need (`timeout` in pyproject.toml is for others).
    """
    left_out = [item for item in items if TEST_DATABASE not in _vendors(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(LONG_BATTERY))


def _vendors(item: pytest.Item) -> tuple[str, ...]:
    """Return the databases that a test is for: those that it, or else its module, is marked with."""
    if any(map(item.get_closest_marker, NOT_ON_MYSQL)):
        return tuple(name for name in _named(item) if name in {"sqlite", "postgres"})
    return _named(item)


def _named(item: pytest.Item) -> tuple[str, ...]:
    for node in item.iter_parents():
        marked = {marker.name for marker in node.own_markers}
        if vendors := VENDORS[1:] if "server" in marked else tuple(marked & {*VENDORS}):
            return vendors
    return VENDORS


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose server does not answer; fail it when servers are required."""
    for marker, service in MARKED.items():
        if item.get_closest_marker(marker):
            need(service)


def need(service: services.Service) -> str:
    """Return the URL of a server that answers; else skip the test, or fail it if so required."""
    if service.problem is None:
        return service.url
    message = f"not reached: {service.problem}"
    if services.required():
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which servers were not reached, so that no skip is silent."""
    for problem in services.missing():
        terminalreporter.write_line(f"Not reached: {problem}", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates in what tests log: pytest-xdist cannot send them, and ends the run."""
    return _escaped((yield))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    # A tuple stays a tuple: pytest reads the reason of a skip from one.
    return type(value)(map(_escaped, value)) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The URL of a PostgreSQL that answers."""
    return need(services.POSTGRES)


@pytest.fixture
def redis_url() -> str:
    """The URL of an empty Redis database of the tests' own."""
    import redis

    url = need(services.REDIS)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def patient() -> None:
    """Let RabbitMQ write new queues down before they are bound, as it is outside of tests."""


@pytest.fixture(autouse=True)
def _hurried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bind new queues at once in other tests, which make many; those that kill RabbitMQ settle it."""
    if request.node.get_closest_marker("rabbitmq") and "patient" not in request.fixturenames:
        monkeypatch.setattr("outbox_inbox.transports.amqp.topology.WRITTEN_AFTER", 0)


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The URL of a RabbitMQ that answers."""
    return need(services.RABBITMQ)
