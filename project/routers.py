"""Routes each context's tables to the database that its configuration names.

Without the router, `migrate` would create the tables of every context on every database.
"""

from typing import Any

from django.db.models import Model

from outbox_inbox.contexts import contexts


class ContextRouter:
    """Route the models of a context to its database, and migrate them only there.

    A database that belongs to contexts gets their tables and the queues; everything else, such
    as users and sessions, stays on the default database.
    """

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        """Return the database of the model's context; None if it does not belong to a context."""
        return _databases().get(model._meta.app_label)

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        """Return the database of the model's context; None if it does not belong to a context."""
        return _databases().get(model._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """Return whether the app's tables belong on the database; None: no opinion."""
        moved = {label: alias for label, alias in _databases().items() if alias != "default"}
        if app_label in moved:
            return moved[app_label] == db
        if db in moved.values():
            return app_label == "outbox_inbox"
        return None


def _databases() -> dict[str, str]:
    return {context.label: context.database for context in contexts()}
