"""From where to where: the two databases of a hand-over, and whether it can be done at all."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from django.apps import apps
from django.db import connections, models
from django.utils import timezone

from outbox_inbox.conf.section import suggestion
from outbox_inbox.contexts import Context, get_context
from outbox_inbox.exceptions import TransferRefused
from outbox_inbox.models import Transfer, TransferState

from .guards import VENDORS
from .tables import Table, own_models, tables_of

NEW_SIDE = frozenset(
    {TransferState.COPYING, TransferState.MOVED, TransferState.OPEN, TransferState.ABORTING}
)


@dataclass(frozen=True)
class Route:
    """A context on its way from one database to another.

    Fields:
        label: the context.
        old, new: aliases of the two databases.
    """

    label: str
    old: str
    new: str

    @cached_property
    def context(self) -> Context:
        """The context as it is on the old database, whatever the settings say by now."""
        return replace(get_context(self.label), database=self.old)

    @property
    def here(self) -> Transfer | None:
        """The row of this hand-over on the new database."""
        return row_of(self.label, self.new)

    @property
    def there(self) -> Transfer | None:
        """The row of this hand-over on the old database, as far as it is this one."""
        here, there = self.here, row_of(self.label, self.old)
        return there if there and here and there.number == here.number else None

    def tables(self) -> list[Table]:
        """Return all tables that move, with the shifts that this hand-over has."""
        here = self.here
        return tables_of(self.label, here.details.get("shifts", {}) if here else {})


def row_of(label: str, using: str, state: TransferState | None = None) -> Transfer | None:
    """Return the row of a context's last hand-over on a database, if it is in that state."""
    rows = Transfer.objects.using(using).filter(context=label)
    return (rows if state is None else rows.filter(state=state)).first()


def set_state(using: str, label: str, state: TransferState) -> None:
    """Write how far a hand-over is on one of its databases."""
    rows = Transfer.objects.using(using).filter(context=label)
    rows.update(state=state, changed_at=timezone.now())


def route_of(label: str, to: str, old: str | None = None) -> Route:
    """Return the way of a context to another database.

    Arguments:
        to: alias of the new database.
        old: alias of the old one; default: where the settings say that it lives. When they name
            the new one already: where its hand-over began, or what its ContextConfig says.

    Raises:
        NotAContext: there is no such context.
        TransferRefused: an alias is unknown, both are the same, or something is missing there.
    """
    context = get_context(label)
    for alias in filter(None, (to, old)):
        if alias not in connections:
            raise TransferRefused(
                f"there is no database {alias!r} in DATABASES{suggestion(alias, tuple(connections))}"
            )
    _refuse(_missing(label, to))
    found = Route(label, old or _old(context, to), to)
    if found.old == to:
        raise TransferRefused(
            f"the context {label!r} lives on the database {to!r} already; "
            "--from names another old one"
        )
    if _place(found.old) == _place(to):
        raise TransferRefused(
            f"the aliases {found.old!r} and {to!r} name one and the same database"
        )
    _refuse(_missing(label, found.old))
    return found


def _old(context: Context, to: str) -> str:
    if context.database != to:
        return context.database
    row = row_of(context.label, to)
    if row is not None and row.state in NEW_SIDE:
        return row.other
    declared = str(getattr(apps.get_app_config(context.label), "database", to))
    # It may have been on its database from the first day: then it has left no tables elsewhere.
    return to if next(_missing(context.label, declared), None) else declared


def _place(alias: str) -> tuple[str, ...]:
    settings = connections[alias].settings_dict
    names = ("ENGINE", "HOST", "PORT", "NAME", "OPTIONS")
    return tuple(str(settings.get(name) or "") for name in names)


def _refuse(problems: Iterator[str]) -> None:
    problem = next(problems, None)
    if problem is not None:
        raise TransferRefused(problem)


def _missing(label: str, alias: str) -> Iterator[str]:
    connection = connections[alias]
    if connection.vendor not in VENDORS:
        yield (
            f"the database {alias!r} is {connection.vendor}; contexts are handed over between "
            f"{' and '.join(sorted(VENDORS))}"
        )
        return
    with connection.cursor() as cursor:
        names = set(connection.introspection.table_names(cursor))
    missing = sorted(_names(label) - names)
    if missing:
        yield (
            f"the database {alias!r} lacks the tables {', '.join(missing)}: run manage.py migrate "
            f"--database {alias}, with settings whose routers allow these apps there"
        )
        return
    for model in (*own_models(label), *apps.get_app_config("outbox_inbox").get_models()):
        yield from _missing_columns(alias, model)


def _names(label: str) -> set[str]:
    queues = apps.get_app_config("outbox_inbox").get_models()
    return {each._meta.db_table for each in (*own_models(label), *queues)}


def _missing_columns(alias: str, model: type[models.Model]) -> Iterator[str]:
    connection, name = connections[alias], model._meta.db_table
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, name)
    wanted = {str(each.column) for each in model._meta.local_concrete_fields}
    missing = sorted(wanted - {each.name for each in found})
    if missing:
        yield (
            f"the table {name} on the database {alias!r} lacks the columns {', '.join(missing)}: "
            f"run manage.py migrate --database {alias}"
        )
