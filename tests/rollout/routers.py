"""Mail and the bank have a database of their own."""

from typing import Any

APART = ("mail", "bank")


class ByLabel:
    """Sends the models of those contexts there."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        """Return the alias for queries."""
        return "other" if model._meta.app_label in APART else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """Return whether a database gets the tables of an app; both get those of the queues."""
        if app_label == "outbox_inbox":
            return None
        return (db == "other") == (app_label in APART)
