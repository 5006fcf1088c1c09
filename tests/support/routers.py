"""The router of the tests, which put contexts on a database after it was made."""

from typing import Any

from outbox_inbox.contexts import ContextRouter, contexts


class AlsoEmptyDatabases(ContextRouter):
    """Lets migrate make every table on a database that no context has yet."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Return what `ContextRouter` does, of the databases of contexts and of ``default``."""
        if db != "default" and db not in {each.database for each in contexts()}:
            return None
        return super().allow_migrate(db, app_label, **hints)
