"""Old and new code of one project at once, killed and replaced in both directions."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.apart import between_at
from tests.acceptance.store import Store, copies_of
from tests.support.deployments import Fleet

VENDOR = os.environ.get("TEST_DATABASE") or "sqlite"


@pytest.fixture
def empty_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Make databases without tables."""
    with ExitStack() as made:

        def empty() -> Store:
            folder = tmp_path / secrets.token_hex(4)
            folder.mkdir()
            template, _ = made.enter_context(copies_of(VENDOR, folder))
            return template

        yield empty


@pytest.fixture
def deploy(
    empty_store: Callable[[], Store],
) -> Iterator[Callable[..., Fleet]]:
    """Make a fleet whose databases the new code has migrated, before any process is replaced."""
    made: list[Fleet] = []

    def migrated(*, apart: bool = False, **settings: str) -> Fleet:
        store = empty_store()
        made.append(Fleet(store, empty_store() if apart else None, **settings))
        made[-1].migrate("new")
        return made[-1]

    yield migrated
    for each in made:
        each.end()


def test_a_few_kills_of_old_and_new_code(deploy: Callable[..., Fleet], tmp_path: Path) -> None:
    """No message is lost, handled twice or out of order, whichever code has moved it."""
    fleet = deploy()
    fleet.mix_and_kill(tmp_path, kills=4, most=20, seed=secrets.randbits(32))
    assert fleet.finish(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True], ids=["one database", "two databases"])
def test_many_kills_of_old_and_new_code(
    deploy: Callable[..., Fleet], tmp_path: Path, *, apart: bool
) -> None:
    """Over local://: nothing is lost, handled twice or out of order."""
    fleet = deploy(apart=apart)
    fleet.mix_and_kill(tmp_path, kills=40, most=150, seed=secrets.randbits(32))
    assert fleet.finish(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("url", ["redis_url", pytest.param("amqp_url", marks=pytest.mark.rabbitmq)])
def test_many_kills_over_a_broker(
    deploy: Callable[..., Fleet], tmp_path: Path, request: pytest.FixtureRequest, url: str
) -> None:
    """With a broker between the contexts: the same."""
    with between_at(request.getfixturevalue(url)) as between:
        joined = {"TRANSPORT_URL": between.url, "TRANSPORT_PREFIX": between.prefix}
        fleet = deploy(apart=True, **joined)
        fleet.mix_and_kill(tmp_path, kills=40, most=150, seed=secrets.randbits(32))
        assert fleet.finish(tmp_path) == []
