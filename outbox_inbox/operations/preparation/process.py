"""Refuses whatever is not the process of the contexts alone, with the database of their own."""

from collections.abc import Sequence

from django.apps import apps
from django.db.migrations.loader import MigrationLoader

from outbox_inbox.contexts import contexts, get_context
from outbox_inbox.exceptions import PreparationRefused
from outbox_inbox.models import Partition, Transfer, TransferState

from .history import missing_parents
from .records import AppRecords, is_own, table_of, tables_in
from .texts import listed

_ELSEWHERE = "Run the command with the settings of the contexts' own process"
_LEFT = (TransferState.CLOSING, TransferState.CLOSED, TransferState.LEFT)


def database_of(labels: Sequence[str]) -> str:
    """Return the alias of the database of the contexts, which must be all that this process has.

    Raises:
        NotAContext: there is no such context.
        PreparationRefused: the process has other contexts, or the contexts have several databases.
    """
    chosen = [get_context(label) for label in labels]
    if others := sorted({each.label for each in contexts()}.difference(labels)):
        raise PreparationRefused(
            f"this process also has {listed(others)}, so it is not the process of "
            f"{listed(labels)} alone. {_ELSEWHERE}, where no other context is installed"
        )
    aliases = sorted({each.database for each in chosen})
    if len(aliases) > 1:
        raise PreparationRefused(
            f"{listed(labels)} have several databases in this process: {listed(aliases)}. "
            f"{_ELSEWHERE}, which has one database for everything"
        )
    return aliases[0]


def refuse_other_processes(using: str, found: Sequence[AppRecords]) -> None:
    """Refuse a process that has the tables of all other apps on another database."""
    others = [each for each in found if not each.own and each.installed]
    if others and all(each.elsewhere for each in others):
        raise PreparationRefused(
            f"the database routers of this process keep the tables of {listed(each.label for each in others)} away "
            f"from the database {using!r}, as those of a monolith do. {_ELSEWHERE}, in which "
            f"{using!r} is the database for everything"
        )


def refuse_other_databases(
    loader: MigrationLoader, using: str, labels: Sequence[str], found: Sequence[AppRecords]
) -> None:
    """Refuse a database that is not the live one of the contexts, or not theirs alone."""
    _refuse_incomplete(loader, using, labels, found)
    for row in Transfer.objects.using(using).filter(context__in=labels).order_by("context"):
        if row.state in _LEFT:
            raise PreparationRefused(
                f"{row.context!r} was transferred, and the database {using!r} is the one that it has "
                "left. Let the settings name the new one"
            )
        if row.state != TransferState.OPEN:
            raise PreparationRefused(
                f"{row.context!r} is being transferred to the database {using!r}. Run manage.py "
                "transfer_context to its end first"
            )
    left = Transfer.objects.using(using).filter(state__in=_LEFT).values("context")
    here = Partition.objects.using(using).exclude(context__in=left)
    if others := sorted(set(here.values_list("context", flat=True)).difference(labels)):
        raise PreparationRefused(
            f"the database {using!r} also has the queues of {listed(others)}, so another process "
            f"works in it, such as the monolith. Is it the database of {listed(labels)}? If so, "
            "transfer the contexts to a database of their own first (manage.py transfer_context)"
        )


def _refuse_incomplete(
    loader: MigrationLoader, using: str, labels: Sequence[str], found: Sequence[AppRecords]
) -> None:
    recorded, tables = {each.label: each for each in found}, tables_in(using)
    for label in sorted(each for each in loader.migrated_apps if is_own(each, labels)):
        if label in recorded and recorded[label].missing:
            raise PreparationRefused(
                f"the database {using!r} lacks the tables {listed(recorded[label].missing)} of "
                f"{label!r}, although their migrations are recorded: it is not the database of "
                f"{listed(labels)}"
            )
        if label not in recorded:
            _refuse_unrecorded(using, label, tables)
    own = {label for label in labels if label in loader.migrated_apps} | {"outbox_inbox"}
    if absent := sorted(own.difference(recorded)):
        raise PreparationRefused(
            f"no migration of {listed(absent)} is recorded in the database {using!r}: it is not the "
            f"database of {listed(labels)}. For a database that is new, manage.py migrate is enough"
        )
    if parents := sorted(key for key in missing_parents(loader) if is_own(key[0], labels)):
        raise PreparationRefused(
            f"the migrations in the database {using!r} are inconsistent: "
            f"{listed('.'.join(key) for key in parents)} is not recorded, although migrations that "
            "depend on it are"
        )


def _refuse_unrecorded(using: str, label: str, tables: set[str]) -> None:
    models = apps.get_app_config(label).get_models(include_auto_created=True)
    names = sorted(table_of(each, using) for each in models if each._meta.can_migrate(using))
    if present := [each for each in names if each in tables]:
        raise PreparationRefused(
            f"the database {using!r} has the tables {listed(present)}, but no migration of {label!r} "
            "is recorded, as after migrate --fake ... zero. With the settings of the monolith, "
            "manage.py migrate --fake --database ALIAS records them again. Then repeat this command"
        )
