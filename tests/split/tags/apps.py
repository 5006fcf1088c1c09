"""The configuration of the tags: their migrations need what `pre_migrate` makes."""

from typing import Any

from django.apps import AppConfig
from django.db import connections, router
from django.db.models.signals import pre_migrate


class TagsConfig(AppConfig):
    """As a third party's that makes an extension of its own in the database."""

    name = "tests.split.tags"
    label = "tags"

    def ready(self) -> None:
        pre_migrate.connect(make_help, sender=self, dispatch_uid="tests.split.tags")


def make_help(*, using: str, **_: Any) -> None:
    """Make a table that no model has."""
    if router.allow_migrate(using, "tags"):
        with connections[using].cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS tags_help (page integer)")
