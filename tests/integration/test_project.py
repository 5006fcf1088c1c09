"""The example project's site and databases."""

from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import override_settings

from project import celery_app


def create_demo_superuser() -> str:
    """Run the command and return what it printed."""
    out = StringIO()
    call_command("create_demo_superuser", stdout=out)
    return out.getvalue()


@override_settings(DEBUG=True)
def test_the_demo_superuser_can_log_in(client, db):
    """The printed name and password open the admin, also when the command ran before."""
    create_demo_superuser()
    assert "user: demo   password: demo" in create_demo_superuser()
    assert client.login(username="demo", password="demo")
    assert client.get("/admin/").status_code == 200


@override_settings(DEBUG=False)
def test_no_demo_superuser_outside_of_debug_mode(db):
    """On a real site no user gets a password that is public."""
    with pytest.raises(CommandError, match="DEBUG is off"):
        create_demo_superuser()
    assert not get_user_model().objects.exists()


def test_the_front_page_leads_to_the_admin(client):
    """The address of the site leads to the admin."""
    assert client.get("/").headers["Location"] == "/admin/"


@pytest.mark.sqlite
@pytest.mark.parametrize(("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2)])
def test_sqlite_runs_as_configured(transactional_db, pragma, value):
    """The test database is a file with a WAL and full synchronisation, like the project's own."""
    with connection.cursor() as cursor:
        assert cursor.execute(f"PRAGMA {pragma}").fetchone() == (value,)


@pytest.mark.django_db(databases=["default", "other"])
def test_the_two_databases_are_different_ones():
    """What is written to `default` is not seen on `other`."""
    users = get_user_model().objects
    users.using("default").create(username="ann")
    assert not users.using("other").exists()
    assert connections["default"].vendor == connections["other"].vendor


def test_beat_ticks_for_every_step():
    """The project's beat relays, receives, dispatches, projects and prunes; its workers know all of it."""
    celery_app.finalize(auto=True)
    tasks = {entry["task"] for entry in celery_app.conf.beat_schedule.values()}
    assert tasks == {
        "outbox_inbox.relay_outbox",
        "outbox_inbox.receive_messages",
        "outbox_inbox.dispatch_inbox",
        "outbox_inbox.update_projections",
        "outbox_inbox.prune_messages",
    }
    assert tasks <= set(celery_app.tasks)
