"""Preparation: make the database of a context complete for a process of the context's own.

While the context is in the monolith, the database router keeps the tables of all other apps away from
its database. Django records their migrations there all the same, so a later `migrate` would not make
these tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connections
from django.db.migrations.loader import MigrationLoader

from .choice import records_to_forget
from .history import can_undo, planned_migrations, rebuild
from .process import database_of, refuse_other_databases, refuse_other_processes
from .records import AppRecords, read_records


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was done to a database, or would be done.

    Fields:
        contexts: labels of the contexts of the process.
        database: alias of their database.
        forgotten: apps whose records were deleted.
        applied: migrations that were applied, in their order, such as ``sites.0001_initial``.
        one_transaction: whether an error undoes everything. If not, the database or a migration does
            not allow it: what was applied before an error stays, and a second call continues.
    """

    contexts: tuple[str, ...]
    database: str
    forgotten: tuple[AppRecords, ...] = ()
    applied: tuple[str, ...] = ()
    one_transaction: bool = True


def prepare_database(
    labels: Sequence[str],
    *,
    keep: Sequence[str] = (),
    forget: Sequence[str] = (),
    dry_run: bool = False,
) -> Preparation:
    """Forget the migrations that have made nothing in the database, and apply them.

    Deletes the rows of ``django_migrations`` for apps whose tables are missing, applies all migrations
    in their order, and calls ``migrate``, which sends its signals. Nothing is migrated backwards. All of
    it is one transaction of its own where that is possible. A call after it changes nothing.

    Arguments:
        labels: all contexts of this process.
        keep: labels of apps whose records are true; default: none.
        forget: labels of apps without tables, whose migrations were not applied; default: none.
        dry_run: change nothing, and return what would be done; default: False.

    Raises:
        NotAContext: there is no such context.
        PreparationRefused: this is not the process of the contexts alone, or not their database, or it
            cannot be seen what was applied: nothing was changed. Or a migration fails.
    """
    using = database_of(labels)
    loader = MigrationLoader(connections[using])
    apps = read_records(loader, using, labels)
    refuse_other_processes(using, apps)
    refuse_other_databases(loader, using, labels, apps)
    forgotten = records_to_forget(using, apps, keep=keep, forget=forget)
    chosen = [each.label for each in forgotten]
    planned = planned_migrations(using, chosen)
    if not chosen and not planned:
        return Preparation(tuple(labels), using)
    one_transaction = can_undo(connections[using], planned)
    if not dry_run:
        rebuild(using, chosen, one_transaction=one_transaction)
    return Preparation(
        tuple(labels),
        using,
        forgotten=tuple(forgotten),
        applied=tuple(map(str, planned)),
        one_transaction=one_transaction,
    )


__all__ = ["AppRecords", "Preparation", "prepare_database"]
