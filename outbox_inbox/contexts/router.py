"""Routes the tables of each context to the database that its configuration names.

Without it, `migrate` would make the tables of every context on every database, and a query would go
to the database ``default``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from outbox_inbox.conf import Settings, settings

from .declaring import APP, context_configs, deployment_of, label_of


class ContextRouter:
    """Route the models of each context to its database, and migrate them only there.

    Put it into DATABASE_ROUTERS: ``["outbox_inbox.contexts.ContextRouter"]``. A router before it in
    that list decides first, for example about an app that a context shares its database with.

    - The models of a context, and of plain apps inside of its package, are on the context's database.
      Of a context inside of another one, the inner one decides. A proxy is where its table is.
    - The tables of ``outbox_inbox`` are on each database that a context has, and on ``default``.
    - All other apps, such as users and sessions, are not on the database of a context, unless that is
      ``default``. Apart from that the router has no opinion of them.

    It has no opinion of relations: Django refuses them between two databases. It can be asked as soon as
    models are imported, before any AppConfig is ready.

    Raises:
        SettingsError: OUTBOX_INBOX is wrong.
        AppRegistryNotReady: Django has not found all apps yet, so no model is imported either.
    """

    def db_for_read(self, model: type[Model], **_hints: Any) -> str | None:
        """Return the alias of the database of the model's context; None: the model has no context."""
        return _databases().get((model._meta.concrete_model or model)._meta.app_label)

    def db_for_write(self, model: type[Model], **_hints: Any) -> str | None:
        """Return the same as `db_for_read`."""
        return self.db_for_read(model)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """Return whether the tables of an app belong on a database; None: no opinion."""
        databases = _databases()
        if app_label in databases:
            return databases[app_label] == db
        is_of_contexts = db in databases.values()
        if app_label == APP:
            return is_of_contexts or db == DEFAULT_DB_ALIAS
        return False if is_of_contexts and db != DEFAULT_DB_ALIAS else None


class _Read:
    """What was read, and the app registry and settings that it was read from.

    Each query of the project asks the router, so an answer must cost a dictionary look-up.
    """

    last: ClassVar["tuple[Mapping[str, AppConfig], Settings, Mapping[str, str]] | None"] = None


def _databases() -> Mapping[str, str]:
    """Return the label of each app that belongs to a context -> the alias of its database."""
    configs, chosen, last = apps.app_configs, settings(), _Read.last
    # The registry makes a new dict whenever INSTALLED_APPS changes.
    if last is not None and last[0] is configs and last[1] is chosen:
        return last[2]
    by_context = {each.label: deployment_of(each)[0] for each in context_configs()}
    owners = {config.label: label_of(config.name) for config in apps.get_app_configs()}
    found = MappingProxyType(
        {label: by_context[owner] for label, owner in owners.items() if owner is not None}
    )
    _Read.last = configs, chosen, found
    return found
