"""Finds what refers to the rows of a read model from outside of it.

These rows stay when a rebuild replaces those of the read model, so what they refer to must stay, too.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from django.apps import apps
from django.db import models

from outbox_inbox.models import table

from .shadow_tables import Shadow


class Reference(NamedTuple):
    """A column of another table that holds ids of a table of the read model.

    Fields:
        table: quoted for SQL.
        column: quoted for SQL.
        condition: which rows refer to this table, in SQL; empty: all that are not NULL.
    """

    table: str
    column: str
    condition: str = ""


def references_to(shadow: Shadow, model: type[models.Model]) -> list[Reference]:
    """Return the columns outside of a read model that hold primary keys of one of its models."""
    with shadow.connection.cursor() as cursor:
        present = set(shadow.connection.introspection.table_names(cursor))
    known = (*_foreign_keys(shadow, model), *_generic_keys(shadow, model, present))
    outside = [each for each in known if each[0] in present and each[0] not in shadow.tables]
    by_database = [Reference(*each) for each in shadow.constraints_on(table(model), _pk(model))]
    return list(dict.fromkeys([*(found for _, found in outside), *by_database]))


def has_rows(shadow: Shadow, reference: Reference) -> bool:
    """Return whether any row refers to the read model by this column."""
    more = f" AND {reference.condition}" if reference.condition else ""
    return bool(
        shadow.execute(
            f"SELECT 1 FROM {reference.table} WHERE {reference.column} IS NOT NULL{more} LIMIT 1"
        )
    )


def _pk(model: type[models.Model]) -> str:
    return str(getattr(model._meta.pk, "column", None) or "")


def _foreign_keys(shadow: Shadow, model: type[models.Model]) -> Iterator[tuple[str, Reference]]:
    """Yield foreign keys as Django knows them, also those without a constraint in the database."""
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, models.ManyToOneRel):  # and OneToOneRel, which is one
            field = relation.field
            if field.target_field.primary_key:
                name = table(field.model)
                yield name, Reference(shadow.quoted(name), shadow.quoted(field.column))


def _generic_keys(
    shadow: Shadow, model: type[models.Model], present: Collection[str]
) -> Iterator[tuple[str, Reference]]:
    """Yield the generic foreign keys, which may refer to any model."""
    if not apps.is_installed("django.contrib.contenttypes"):
        return
    # It has models, so it may only be imported where it is installed.
    from django.contrib.contenttypes.fields import GenericForeignKey
    from django.contrib.contenttypes.models import ContentType

    if table(ContentType) not in present:
        return
    own: Any = model._meta
    kinds = ContentType.objects.using(shadow.connection.alias)
    kind = kinds.filter(app_label=own.app_label, model=own.model_name).first()
    if kind is None:
        return
    for other in apps.get_models():
        options: Any = other._meta
        for field in options.private_fields:
            if isinstance(field, GenericForeignKey):
                column = options.get_field(field.fk_field).column
                of_kind = shadow.quoted(options.get_field(field.ct_field).column)
                name = table(other)
                yield (
                    name,
                    Reference(shadow.quoted(name), shadow.quoted(column), f"{of_kind} = {kind.pk}"),
                )
