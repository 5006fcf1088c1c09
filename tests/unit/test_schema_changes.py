"""Migrations change tables that are full and in use, by code that does not know the change.

Each later migration only adds. What is removed or renamed is removed by a release of its own, after no
process has the code that uses it (CONTRIBUTING.md).
"""

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader

from outbox_inbox.queues.statements.online_schema import AddQueueIndex, AddUnique, AlterUnique

ALLOWED = (AddQueueIndex, AddUnique, AlterUnique)
"""Operations of the app that do what those of Django do while others write."""

REFUSED = {
    migrations.AddConstraint: "AddUnique",
    migrations.AddIndex: "AddQueueIndex",
    migrations.AlterField: "a new column",
    migrations.AlterUniqueTogether: "AddUnique",
    migrations.DeleteModel: "a release that only removes",
    migrations.RemoveConstraint: "a release that only removes",
    migrations.RemoveField: "a release that only removes",
    migrations.RenameField: "a new column",
    migrations.RenameModel: "a new table",
}
"""Operations that keep writers out, or break code that is running -> what to use instead."""

BESIDE_WRITERS = (AddQueueIndex, AddUnique)


def problems(name, migration):
    """Yield what is wrong with a migration of tables that are in use."""
    made = {each.name_lower for each in parts(migration, migrations.CreateModel)}
    for part in migration.operations:
        if getattr(part, "model_name_lower", None) not in made:
            yield from (f"{name}: {problem}" for problem in problems_of(part))
    if any(parts(migration, BESIDE_WRITERS)) and migration.atomic:
        yield f"{name}: it builds an index within a transaction; it needs atomic = False"


def problems_of(part):
    """Yield what is wrong with an operation on a table that is in use."""
    if isinstance(part, migrations.AddField):
        if not part.field.null and not part.field.has_db_default():
            yield f"{part.model_name}.{part.name} is not null, and has no db_default"
    elif not isinstance(part, ALLOWED):
        for kind, better in REFUSED.items():
            if isinstance(part, kind):
                yield f"{part.describe()}; use {better}"


def parts(migration, kind):
    """Return the operations of a kind."""
    return [each for each in migration.operations if isinstance(each, kind)]


def later_migrations():
    """Return the migrations that meet tables which are in use, by their names."""
    loader = MigrationLoader(None)
    found = {
        name: each for (app, name), each in loader.disk_migrations.items() if app == "outbox_inbox"
    }
    return {name: each for name, each in found.items() if not each.initial}


def test_old_code_can_go_on_beside_every_later_migration():
    """It inserts rows without the new columns, and finds the old ones."""
    later = later_migrations()
    assert len(later) >= 10
    assert [each for name, migration in later.items() for each in problems(name, migration)] == []


class Online(migrations.Migration):
    """A migration as the rule wants it, for the tests below to spoil."""

    atomic = False


COLUMN = models.IntegerField(default=1)
INDEX = models.Index(fields=["key"], name="sample")


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (migrations.AddField("partition", "more", COLUMN, preserve_default=False), "db_default"),
        (migrations.AddIndex("delivery", INDEX), "use AddQueueIndex"),
        (migrations.RemoveField("delivery", "key"), "only removes"),
        (migrations.RenameField("delivery", "key", "name"), "use a new column"),
        (migrations.AlterField("delivery", "key", COLUMN), "use a new column"),
    ],
)
def test_a_change_that_old_code_cannot_bear_is_reported(operation, said):
    """With what to use instead."""
    migration = Online("0099_sample", "outbox_inbox")
    migration.operations = [operation]
    (problem,) = problems("0099_sample", migration)
    assert said in problem


def test_an_index_that_is_built_in_a_transaction_is_reported():
    """PostgreSQL would keep writers out until the end of the migration."""
    migration = migrations.Migration("0099_sample", "outbox_inbox")
    migration.operations = [AddQueueIndex("delivery", INDEX)]
    (problem,) = problems("0099_sample", migration)
    assert "atomic = False" in problem
