"""Check of the foreign keys by which the tables of a context are tied to other tables."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage
from django.db import models, router

from outbox_inbox.contexts import Context
from outbox_inbox.contexts.declaring import models_of, owner_of

from .messages import warning

Model = type[models.Model]


def check_foreign_keys(context: Context) -> Iterator[CheckMessage]:
    """W006: a foreign key ties the tables of two contexts together, or leads to another database."""
    for model in models_of(context.label):
        for field, related in _relations(model):
            owner = owner_of(related)
            if owner is None:
                if _is_constraint(field) and not _is_on(context.database, related):
                    yield _apart(field, related, context.database, router.db_for_write(related))
            elif owner != context.label:
                yield warning(
                    "W006",
                    f"{_title(field)} refers to {related._meta.label} of the context {owner!r}.",
                    "Keep the other's identifier as a plain value, and take the rest from its "
                    "contracts. With the foreign key neither context can be moved out.",
                )
    yield from _from_plain_apps(context)


def _from_plain_apps(context: Context) -> Iterator[CheckMessage]:
    for model in [each for each in apps.get_models() if owner_of(each) is None]:
        using = router.db_for_write(model)
        for field, related in _relations(model) if using != context.database else ():
            if owner_of(related) == context.label and _is_constraint(field):
                yield _apart(field, related, using, context.database)


def _relations(model: Model) -> Iterator[tuple[Any, Model]]:
    """Yield the foreign keys and many-to-many fields of a model, each with the model it refers to."""
    for field in (*model._meta.local_fields, *model._meta.local_many_to_many):
        if isinstance(field.related_model, type):  # a text: there is no such model
            yield field, field.related_model


def _is_constraint(field: Any) -> bool:
    """Return whether migrate makes a constraint in the database for this field."""
    if not field.model._meta.managed:
        return False
    if field.many_to_many:
        # The fields of a model of the project's own between the two are looked at by themselves.
        through = field.remote_field.through
        return bool(through._meta.auto_created and field.remote_field.db_constraint)
    return bool(getattr(field, "db_constraint", False))


def _is_on(using: str, model: Model) -> bool:
    return router.db_for_write(model) == using and router.allow_migrate_model(using, model)


def _title(field: Any) -> str:
    return f"{field.model._meta.label}.{field.name}"


def _apart(field: Any, related: Model, using: str, other: str) -> CheckMessage:
    where = f"the database {other!r}" if other != using else "no database that routers allow it on"
    return warning(
        "W006",
        f"{_title(field)} is on the database {using!r}, and refers to {related._meta.label}, which is "
        f"on {where}: migrate cannot make the constraint, or nothing could be stored under it.",
        "Keep the identifier as a plain value, or set db_constraint=False.",
    )
