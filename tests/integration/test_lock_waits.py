"""How long a statement waits for what another transaction has locked."""

from contextlib import suppress

import pytest
from django.db import DatabaseError, connection, transaction

from outbox_inbox.models import Interest, Partition, QueueLayout
from outbox_inbox.queues.interests import store_interests
from outbox_inbox.queues.layouts import ensure_layouts
from outbox_inbox.queues.partitions import ensure_partitions
from outbox_inbox.queues.statements.dialects import gave_way
from outbox_inbox.queues.statements.lock_waits import limited_lock_wait
from tests.support.movers import Worker

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("committed")]

USUAL = {
    "mysql": ("SELECT @@innodb_lock_wait_timeout", "SET innodb_lock_wait_timeout = {}", 3_600),
    "postgresql": ("SHOW lock_timeout", "SET lock_timeout = '{}'", "1h"),
}


@pytest.fixture
def patient():
    """Let the session of the test wait for an hour; return a function that says for how long it waits."""
    ask, change, usual = USUAL[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(change.format(usual))

    def patience():
        with connection.cursor() as cursor:
            cursor.execute(ask)
            return cursor.fetchone()[0]

    assert patience() == usual
    yield lambda: patience() == usual
    connection.close()


@pytest.fixture
def rival():
    """Return another worker, with a transaction open until the end of the test."""
    with Worker() as worker, worker.transaction():
        yield worker


def lock_partitions():
    """Lock the rows of all partitions in the open transaction."""
    return len(Partition.objects.select_for_update())


def test_a_statement_that_waits_for_longer_fails(patient, rival):
    """The error is known as one of a wait, after which the work is tried again."""
    rival.do(lock_partitions)
    waits = limited_lock_wait(connection, 0.05)
    with pytest.raises(DatabaseError) as failure, transaction.atomic(), waits:
        lock_partitions()
    assert gave_way(connection, failure.value)


@pytest.mark.parametrize("fails", [False, True])
def test_the_limit_ends_with_its_block(patient, rival, fails):
    """The statements of the project after it wait as long as before."""
    if fails:
        rival.do(lock_partitions)
    with suppress(DatabaseError), transaction.atomic(), limited_lock_wait(connection, 0.05):
        lock_partitions()
    assert patient()


@pytest.mark.parametrize(
    ("model", "store"), [(Interest, store_interests), (QueueLayout, ensure_partitions)]
)
def test_a_mover_does_not_wait_for_what_a_use_case_stores(patient, rival, model, store):
    """The use case may be open for an hour, and the mover would stand still as long."""
    model.objects.all().delete()
    rival.do(store_interests, "default")
    rival.do(ensure_layouts, "default")
    store("default")
    assert not model.objects.exists()
