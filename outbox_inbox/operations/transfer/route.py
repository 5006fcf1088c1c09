"""The route of a transfer: from which database to which, and whether it is possible at all.

What is missing on one of the two is found here, before anything is changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import connections
from django.utils import timezone

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransferRefused, UnknownName
from outbox_inbox.models import Transfer, TransferState, table

from .guards import VENDORS
from .tables import Table, own_models, tables_of

NEW_SIDE_STATES = frozenset(
    {TransferState.COPYING, TransferState.MOVED, TransferState.OPEN, TransferState.ABORTING}
)


@dataclass(frozen=True)
class Route:
    """The label of a context, and the aliases of the databases between which it is transferred."""

    label: str
    old: str
    new: str

    @cached_property
    def context(self) -> Context:
        """The context with the old database, even where the settings name the new one already."""
        return replace(get_context(self.label), database=self.old)

    @property
    def new_side(self) -> Transfer | None:
        """The row of this transfer on the new database."""
        return transfer_row(self.label, self.new)

    @property
    def old_side(self) -> Transfer | None:
        """The row on the old database; None: it has none, or that of another transfer."""
        new_side, old_side = self.new_side, transfer_row(self.label, self.old)
        return old_side if old_side and new_side and old_side.number == new_side.number else None

    def tables(self) -> list[Table]:
        """Return all tables that move, with the shifts of this transfer."""
        new_side = self.new_side
        return tables_of(self.label, new_side.details.get("shifts", {}) if new_side else {})


def transfer_row(label: str, using: str) -> Transfer | None:
    """Return the row of a context's last transfer on a database."""
    return Transfer.objects.using(using).filter(context=label).first()


def write_transfer(
    route: Route, using: str, number: UUID, state: TransferState, details: Mapping[str, Any]
) -> None:
    """Write the row of a transfer on one of its databases."""
    Transfer.objects.using(using).update_or_create(
        context=route.label,
        defaults={
            "number": number,
            "state": state,
            "other": route.old if using == route.new else route.new,
            "details": details,
            "changed_at": timezone.now(),
        },
    )


def set_transfer_state(using: str, label: str, state: TransferState) -> None:
    """Write how far a transfer is on one of its databases."""
    rows = Transfer.objects.using(using).filter(context=label)
    rows.update(state=state, changed_at=timezone.now())


def route_of(label: str, to: str, old: str | None = None) -> Route:
    """Return the route of a context to another database.

    Arguments:
        old: alias of the old one; default: the database that the settings name. When they name
            the new one already: where its transfer began, or what its ContextConfig says.

    Raises:
        NotAContext: there is no such context.
        UnknownName: there is no database of such an alias.
        TransferRefused: both name one database, or something is missing on
            one of the two.
    """
    context = get_context(label)
    for alias in filter(None, (to, old)):
        if alias not in connections:
            raise UnknownName(
                f"there is no database {alias!r} in DATABASES{suggestion(alias, tuple(connections))}"
            )
    if problem := _schema_problem(label, to):
        raise TransferRefused(problem)
    found = Route(label, old or _default_old(context, to), to)
    if found.old == to:
        raise TransferRefused(
            f"the context {label!r} lives on the database {to!r} already; "
            "--from names another old one"
        )
    if _identity(found.old) == _identity(to):
        raise TransferRefused(
            f"the aliases {found.old!r} and {to!r} name one and the same database"
        )
    if problem := _schema_problem(label, found.old):
        raise TransferRefused(problem)
    return found


def _default_old(context: Context, to: str) -> str:
    if context.database != to:
        return context.database
    row = transfer_row(context.label, to)
    if row is not None and row.state in NEW_SIDE_STATES:
        return row.other
    declared = str(getattr(apps.get_app_config(context.label), "database", to))
    # A context that was on its database from the first day has no tables elsewhere.
    return to if _schema_problem(context.label, declared) else declared


def _identity(alias: str) -> tuple[str, ...]:
    settings = connections[alias].settings_dict
    # Two aliases of one database: closing the old side would close the new one.
    names = ("ENGINE", "HOST", "PORT", "NAME", "OPTIONS")
    return tuple(str(settings.get(name) or "") for name in names)


def _schema_problem(label: str, alias: str) -> str:
    """Return what a database lacks to hold a context; empty: nothing."""
    connection = connections[alias]
    if connection.vendor not in VENDORS:
        return (
            f"the database {alias!r} is {connection.vendor}; contexts are transferred between "
            f"{' and '.join(sorted(VENDORS))}"
        )
    needed = [*own_models(label), *apps.get_app_config("outbox_inbox").get_models()]
    with connection.cursor() as cursor:
        names = set(connection.introspection.table_names(cursor))
        if missing := sorted({*map(table, needed)} - names):
            return (
                f"the database {alias!r} lacks the tables {', '.join(missing)}: run manage.py "
                f"migrate --database {alias}, with settings whose routers allow these apps there"
            )
        for model in needed:
            found = connection.introspection.get_table_description(cursor, table(model))
            wanted = {str(each.column) for each in model._meta.local_concrete_fields}
            if missing := sorted(wanted - {each.name for each in found}):
                return (
                    f"the table {table(model)} on the database {alias!r} lacks the columns "
                    f"{', '.join(missing)}: run manage.py migrate --database {alias}"
                )
    return ""
