"""The app's entry in INSTALLED_APPS: connects and registers, nothing else."""

from typing import Any

from django.apps import AppConfig
from django.apps.registry import Apps
from django.apps.registry import apps as installed_apps
from django.core import checks
from django.db.models.signals import post_migrate


class OutboxInboxConfig(AppConfig):
    """Make the queues known to Django: system checks, partitions and interests after migrate, log entries."""

    name = "outbox_inbox"
    verbose_name = "Outbox and inbox"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, arm the faults, connect the receivers; may be called again.

        Raises:
            SettingsError: faults are configured where they are not allowed.
        """
        from .checks import check_contexts, check_servers
        from .conf import faults
        from .operations.stored_checks import (
            check_layouts,
            check_schema,
            check_session,
            check_stored,
            check_strays,
        )
        from .signals import logging

        checks.register(check_contexts, "outbox_inbox")
        checks.register(check_servers, "outbox_inbox", deploy=True)
        checks.register(check_stored, "outbox_inbox", checks.Tags.database)
        checks.register(check_strays, "outbox_inbox", checks.Tags.database)
        checks.register(check_schema, "outbox_inbox", checks.Tags.database)
        checks.register(check_layouts, "outbox_inbox", checks.Tags.database)
        checks.register(check_session, "outbox_inbox", checks.Tags.database)
        faults.arm()
        logging.connect()
        post_migrate.connect(_prepare_queues, sender=self, dispatch_uid="outbox_inbox")


def _prepare_queues(*, using: str, apps: Apps = installed_apps, **_: Any) -> None:
    # Migrating back drops tables, and sends this signal too.
    present = apps.all_models["outbox_inbox"]
    if not present.keys() >= installed_apps.all_models["outbox_inbox"].keys():
        return
    from .queues.interests import store_interests
    from .queues.partitions import ensure_partitions
    from .queues.schema import complete_schema

    complete_schema(using)
    ensure_partitions(using)
    store_interests(using)
