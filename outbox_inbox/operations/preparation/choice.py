"""Chooses the records that are forgotten, and refuses to guess."""

from collections.abc import Sequence

from django.db import connections

from outbox_inbox.conf.section import suggestion
from outbox_inbox.exceptions import PreparationRefused

from .records import AppRecords
from .texts import listed


def records_to_forget(
    using: str, found: Sequence[AppRecords], *, keep: Sequence[str], forget: Sequence[str]
) -> list[AppRecords]:
    """Return the apps whose migrations have made nothing in a database.

    Arguments:
        keep, forget: labels of apps that an operator has judged.

    Raises:
        PreparationRefused: an option is wrong, or it cannot be seen what was applied.
    """
    _check_options(using, found, keep=keep, forget=forget)
    others = [each for each in found if not each.own and not each.elsewhere]
    open_ones = [each for each in others if each.label not in keep]
    for each in open_ones:
        if each.present and each.missing:
            raise PreparationRefused(_partial(using, each))
    absent = [each for each in open_ones if _is_absent(each)]
    without_tables = [each for each in open_ones if not each.present and not each.missing]
    silent = [each for each in without_tables if each.installed and each.label not in forget]
    if any(each.missing for each in absent) and silent:
        if complete := [each.label for each in others if each.installed and each.present]:
            raise PreparationRefused(_undecided(using, silent, complete))
    else:
        silent = []
    chosen = {each.label for each in (*absent, *silent)}.union(forget)
    return [each for each in found if each.label in chosen]


def _is_absent(app: AppRecords) -> bool:
    # The records of an app that this process does not have would hide its tables from the day on
    # which it is installed.
    return not app.present and (bool(app.missing) or not app.installed)


def _check_options(
    using: str, found: Sequence[AppRecords], *, keep: Sequence[str], forget: Sequence[str]
) -> None:
    known = {each.label: each for each in found}
    for label in (*keep, *forget):
        if label not in known:
            raise PreparationRefused(
                f"no migration of an app {label!r} is recorded in the database {using!r}"
                f"{suggestion(label, known)}"
            )
    for label in forget:
        if label in keep:
            raise PreparationRefused(f"{label!r} is to be kept and to be forgotten")
        if known[label].own:
            raise PreparationRefused(f"{label!r} belongs to the contexts: its tables are in use")
        if known[label].present:
            raise PreparationRefused(
                f"the tables {listed(known[label].present)} of {label!r} are in the database "
                f"{using!r}: applying its migrations again would fail"
            )


def _partial(using: str, app: AppRecords) -> str:
    rows = [each for each in app.present if _holds_rows(using, each)]
    held = f", and {listed(rows)} holds rows" if rows else ""
    return (
        f"of the tables of {app.label!r}, {listed(app.present)} is in the database {using!r}{held}, "
        f"and {listed(app.missing)} is not. It cannot be seen which migrations were applied. Make the "
        f"missing tables or drop the others; or leave the app as it is, with --keep {app.label}"
    )


def _undecided(using: str, silent: Sequence[AppRecords], complete: Sequence[str]) -> str:
    return (
        f"the migrations of {listed(each.label for each in silent)} make no tables, so it cannot be "
        f"seen whether they were applied in the database {using!r}: those of {listed(complete)} were, "
        "and others were not. Say --keep APP for each that was, and --forget APP for each that was "
        "not"
    )


def _holds_rows(using: str, table: str) -> bool:
    connection = connections[using]
    with connection.cursor() as cursor:
        name = connection.ops.quote_name(table)
        cursor.execute(f"SELECT 1 FROM {name} LIMIT 1")
        return cursor.fetchone() is not None
