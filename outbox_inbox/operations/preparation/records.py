"""Compares what is recorded of each app in a database with the tables that are there."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.apps import apps
from django.db import connections, models, router
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from outbox_inbox.contexts.declaring import APP, label_of

from .history import known_keys

Model = type[models.Model]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRecords:
    """An app with migrations that are recorded as applied.

    Fields:
        label: of the app.
        migrations: names of its recorded migrations.
        present: its tables that are in the database.
        missing: its tables that are not.
        own: whether it belongs to the contexts, or is ``outbox_inbox``.
        installed: whether this process has it. If not, its tables are those that begin with its label.
        elsewhere: whether the routers of this process keep it away from the database.
    """

    label: str
    migrations: tuple[str, ...]
    present: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    own: bool = False
    installed: bool = True
    elsewhere: bool = False


def read_records(loader: MigrationLoader, using: str, labels: Sequence[str]) -> list[AppRecords]:
    """Return the apps that are recorded in a database, by label.

    Arguments:
        labels: the contexts that it belongs to.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for label, name in sorted(MigrationRecorder(connections[using]).applied_migrations()):
        names[label].append(name)
    tables, recorded = tables_in(using), _recorded_models(loader)
    found = []
    for label, migrations in names.items():
        if label in loader.migrated_apps:
            found.append(_installed(label, migrations, recorded[label], tables, using, labels))
        elif label not in loader.unmigrated_apps:
            present = tuple(sorted(each for each in tables if each.startswith(f"{label}_")))
            found.append(
                AppRecords(
                    label=label, migrations=tuple(migrations), present=present, installed=False
                )
            )
    return found


def tables_in(using: str) -> set[str]:
    """Return the names of the tables in a database."""
    connection = connections[using]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def table_of(model: Model, using: str) -> str:
    """Return the name of a model's table, as the database reports it."""
    return connections[using].introspection.identifier_converter(model._meta.db_table)


def is_own(label: str, labels: Sequence[str]) -> bool:
    """Return whether an installed app belongs to one of these contexts, or is ``outbox_inbox``."""
    return label == APP or label_of(apps.get_app_config(label).name) in labels


def _recorded_models(loader: MigrationLoader) -> dict[str, list[Model]]:
    """Return the models of each app as the recorded migrations have left them."""
    found: dict[str, list[Model]] = defaultdict(list)
    state = loader.project_state(known_keys(loader))
    for model in state.apps.get_models(include_auto_created=True):
        found[model._meta.app_label].append(model)
    return found


def _installed(
    label: str,
    migrations: Sequence[str],
    recorded: Sequence[Model],
    tables: set[str],
    using: str,
    labels: Sequence[str],
) -> AppRecords:
    own = is_own(label, labels)
    managed = [each for each in recorded if each._meta.can_migrate(using)]
    here = managed if own else [each for each in managed if _is_on(using, each)]
    names = sorted(table_of(each, using) for each in here)
    away = not here if managed else router.allow_migrate(using, label) is False
    return AppRecords(
        label=label,
        migrations=tuple(migrations),
        present=tuple(each for each in names if each in tables),
        missing=tuple(each for each in names if each not in tables),
        own=own,
        elsewhere=away and not own,
    )


def _is_on(using: str, model: Model) -> bool:
    return router.db_for_write(model) == using and router.allow_migrate_model(using, model)
