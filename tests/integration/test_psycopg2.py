"""PostgreSQL by its older driver, psycopg2, in a process that cannot import psycopg 3."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("committed")]

BEGIN = """
    import json, sys
    sys.modules["psycopg"] = None
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "outbox_inbox", "tests.shop", "tests.depot"],
        DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True,
    )
    import django
    django.setup()
    from django.db import connection, connections
    from outbox_inbox.models import Delivery, OutboxMessage
    from outbox_inbox.testing import drain
    from tests.shop.events import Counted, Noted
    from tests.support.movers import deliver, dispatch, entries, picks, put, steps
    from tests.support.script import playing
    assert connections["default"].Database.__name__ == "psycopg2"
"""


def run(script):
    """Run Python code in a process with psycopg2 alone; return what it printed, as JSON."""
    kept = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
    database = {name: connection.settings_dict[name] for name in kept}
    done = subprocess.run(
        [sys.executable, "-c", dedent(BEGIN) + dedent(script), json.dumps(database)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("count", [1, 20])
def test_what_is_recorded_is_handled_in_order(count):
    """One event goes as values, many go as arrays with psycopg 3."""
    found = run(f"""
        recorded = put(*steps(Noted, {count}))
        stored = OutboxMessage.objects.order_by("id").values_list("message_id", "recorded_at")
        same = [(each.id, each.time) for each in recorded] == list(stored)
        drain()
        print(json.dumps([same, entries()]))
    """)
    assert found == [True, list(range(1, count + 1))]


def test_the_checks_find_nothing():
    """Nor does the database check."""
    found = run("""
        from django.core.checks import run_checks
        found = run_checks(tags=["outbox_inbox", "database"], databases=["default"])
        print(json.dumps([each.id for each in found]))
    """)
    assert found == []


def test_a_time_stamp_keeps_its_zone():
    """The session may be in another zone than Django's."""
    found = run("""
        from django.db import transaction
        from outbox_inbox import record
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('TimeZone', 'Asia/Kolkata', true)")
            (envelope,) = record(Noted(order="a", number=1))
        print(json.dumps(envelope.time == OutboxMessage.objects.get().recorded_at))
    """)
    assert found is True


@pytest.mark.parametrize("statement", ["SELECT 1/0", "ROLLBACK"])
def test_a_transaction_that_the_driver_has_ended_or_broken_is_a_failure(statement):
    """Django knows nothing of it, but the connection does."""
    found = run(f"""
        deliver(*steps(Noted, 1))

        def part(event):
            try:
                connection.connection.cursor().execute({statement!r})
            except Exception:
                pass

        with playing(note=part):
            outcome = dispatch()
        print(json.dumps([outcome.failed, entries()]))
    """)
    assert found == [1, []]
