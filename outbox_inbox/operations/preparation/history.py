"""The history of a database: forgets migrations that made nothing, and applies them in their order.

`migrate` cannot do it. A migration of the context may depend on a forgotten one, as that of a foreign
key to the user does, and `migrate` refuses such a history before it applies anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from django.core.management import call_command
from django.core.management.sql import emit_pre_migrate_signal
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from outbox_inbox.exceptions import PreparationRefused

Key = tuple[str, str]
"""The label of an app, and the name of a migration."""


def known_keys(loader: MigrationLoader) -> list[Key]:
    """Return the migrations that are recorded as applied, of those that this process has."""
    return sorted(key for key in loader.applied_migrations if key in loader.graph.nodes)


def missing_parents(loader: MigrationLoader) -> set[Key]:
    """Return the migrations without a record that a recorded one depends on."""
    parents = (
        each.key for key in known_keys(loader) for each in loader.graph.node_map[key].parents
    )
    return {key for key in parents if key not in loader.applied_migrations}


def planned_migrations(using: str, labels: Sequence[str]) -> list[Migration]:
    """Return what is applied after the records of these apps are forgotten, in its order."""
    with transaction.atomic(using=using):
        _forget(using, labels)
        found = _unapplied(MigrationExecutor(connections[using]))
        transaction.set_rollback(True, using=using)
    return found


def can_undo(connection: BaseDatabaseWrapper, planned: Sequence[Migration]) -> bool:
    """Return whether the migrations can be applied in one transaction."""
    return connection.features.can_rollback_ddl and all(each.atomic for each in planned)


def rebuild(using: str, labels: Sequence[str], *, one_transaction: bool) -> None:
    """Forget the records of these apps, and apply every migration that is not recorded then.

    Arguments:
        one_transaction: an error leaves the database as it was.

    Raises:
        PreparationRefused: a migration fails.
    """
    connection = connections[using]
    with ExitStack() as stack:
        if one_transaction:
            stack.enter_context(_transaction(connection))
        with transaction.atomic(using=using):
            _forget(using, labels)
        _apply_all(MigrationExecutor(connection), one_transaction=one_transaction)
        # It finds nothing to apply, and sends the signals by which apps make their first rows.
        call_command("migrate", database=using, interactive=False, skip_checks=True, verbosity=0)


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    # SQLite makes no table while it checks foreign keys, and cannot stop to do so in a transaction.
    # Each migration checks all rows at its end.
    with connection.constraint_checks_disabled(), transaction.atomic(using=connection.alias):
        yield


def _forget(using: str, labels: Sequence[str]) -> None:
    MigrationRecorder(connections[using]).migration_qs.filter(app__in=labels).delete()


def _unapplied(executor: MigrationExecutor) -> list[Migration]:
    applied = executor.loader.applied_migrations
    return [each for each in _full_plan(executor) if (each.app_label, each.name) not in applied]


def _full_plan(executor: MigrationExecutor) -> list[Migration]:
    leaves = executor.loader.graph.leaf_nodes()
    return [migration for migration, _ in executor.migration_plan(leaves, clean_start=True)]


def _apply_all(executor: MigrationExecutor, *, one_transaction: bool) -> None:
    """Apply what is not recorded, each migration at its place among those that are."""
    connection, unapplied = executor.connection, _unapplied(executor)
    _announce(executor, unapplied)
    state = executor.loader.project_state([])
    for migration in _full_plan(executor):
        if migration not in unapplied:
            # Not with its models made: they would be made again for each operation.
            state.__dict__.pop("apps", None)
            state = migration.mutate_state(state, preserve=False)
            continue
        try:
            state = executor.apply_migration(state, migration)
            if one_transaction:
                # PostgreSQL alters no table whose foreign keys are still to be checked.
                connection.check_constraints()
        except Exception as error:
            failure = _failure(migration, error, one_transaction=one_transaction)
            raise PreparationRefused(failure) from error
    executor.check_replacements()
    executor.loader.check_consistent_history(connection)


def _announce(executor: MigrationExecutor, unapplied: Sequence[Migration]) -> None:
    """Send `pre_migrate`: apps make there what their migrations need, such as an extension."""
    loader = executor.loader
    applied = loader.applied_migrations
    # Not the others: their models refer to some that are not there yet.
    complete = [
        key
        for key in known_keys(loader)
        if all(each in applied for each in loader.graph.forwards_plan(key))
    ]
    emit_pre_migrate_signal(
        0,
        False,
        executor.connection.alias,
        apps=loader.project_state(complete).apps,
        plan=[(migration, False) for migration in unapplied],
    )


def _failure(migration: Migration, error: Exception, *, one_transaction: bool) -> str:
    undone = (
        "Nothing was changed."
        if one_transaction
        else "What was applied before it stays. Repair the cause, and run the same command again."
    )
    said = " ".join(str(error).split()).rstrip(".")
    return f"the migration {migration} failed ({type(error).__name__}): {said}. {undone}"
