"""A look at the queues costs the same, however full they are and whatever the statistics say."""

import pytest
from django.db import transaction

from outbox_inbox.contexts import get_context
from outbox_inbox.models import QuarantinedMessage
from outbox_inbox.operations import queue_stats
from tests.support.crowd import QUEUED, explain_all, rows_read

SHAPES = ["finished", "backlog", "worked off", "scheduled"]


def look():
    """Count up to a hundred of each."""
    return queue_stats([get_context("shop")], most=100)


@pytest.mark.server
@pytest.mark.parametrize("crowded", SHAPES, indirect=True)
def test_the_statistics_scan_no_table(crowded):
    """Each statement is served by an index, also in the midst of finished rows."""
    tables = {each._meta.db_table for each in (*QUEUED, QuarantinedMessage)}
    with transaction.atomic():
        found = [plan.text for plan in explain_all(look) if plan.scanned & {"all", *tables}]
    assert found == []


@pytest.mark.postgres
@pytest.mark.parametrize("crowded", ["finished", "backlog", "scheduled"], indirect=True)
def test_the_statistics_read_few_pages(crowded):
    """What is beyond the limit is not read, nor what is finished or for another day."""
    with transaction.atomic():
        assert sum(plan.pages for plan in explain_all(look)) < 600


@pytest.mark.mariadb
@pytest.mark.mysql
@pytest.mark.parametrize("crowded", SHAPES, indirect=True)
def test_mariadb_and_mysql_read_few_rows_for_the_statistics(crowded):
    """What is beyond the limit is not read, nor what is finished or for another day."""
    with transaction.atomic():
        before = rows_read()
        look()
        assert rows_read() - before < 4_000


@pytest.mark.parametrize("crowded", SHAPES, indirect=True)
def test_the_statistics_are_the_same_as_a_full_count(crowded):
    """Up to their limit."""
    with transaction.atomic():
        exact = queue_stats([get_context("shop")], most=10**9)
        for full, counted in zip(exact, look(), strict=True):
            assert counted.depth == {state: min(n, 100) for state, n in full.depth.items()}
            assert counted.scheduled == min(full.scheduled, 100)
            assert counted.oldest == pytest.approx(full.oldest, abs=60)
            assert not full.minimums
