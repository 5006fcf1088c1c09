import pytest
from django.apps import apps
from django.apps.registry import Apps
from django.core import checks
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal

from outbox_inbox.apps import _prepare_queues
from outbox_inbox.checks import check_contexts
from outbox_inbox.conf import faults
from outbox_inbox.contexts import contexts
from outbox_inbox.models import Partition


@pytest.mark.django_db
def test_partitions_after_migrate():
    """A migrated database has the partitions of its contexts."""
    found = set(Partition.objects.values_list("context", flat=True))
    assert found == {context.label for context in contexts()}


@pytest.mark.django_db
def test_partitions_after_flush():
    """They are put back whenever Django announces a migration, as `flush` does."""
    Partition.objects.all().delete()
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default")
    assert Partition.objects.exists()


def test_tables_migrated_away():
    """A migration that takes the tables away ends without a query to them."""
    _prepare_queues(using="default", apps=Apps())


def test_database_without_queues(settings):
    """A database that is to have no tables of the app is not asked for any."""

    class Router:
        def allow_migrate(self, db, app_label, **_):
            return app_label != "outbox_inbox"

    settings.DATABASE_ROUTERS = [Router()]
    _prepare_queues(using="default")


def test_checks_are_registered():
    """`manage.py check --tag outbox_inbox` runs the checks."""
    assert check_contexts in checks.registry.registry.get_checks()
    call_command("check", tags=["outbox_inbox"], verbosity=0)


def test_faults_are_armed(monkeypatch):
    """Faults asked for by the environment are armed at start."""
    armed = []
    monkeypatch.setattr(faults, "arm", lambda: armed.append(True))
    apps.get_app_config("outbox_inbox").ready()
    assert armed == [True]
