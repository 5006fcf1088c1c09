"""New columns and indexes of tables that are full and in use."""

from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from outbox_inbox.models import InboxMessage, StoredEvent
from tests.support import rows

pytestmark = pytest.mark.usefixtures("committed")

NAME = "outbox_inbox_in_full"
HERE = {"mysql": f"{NAME}_rows"}


class Migrated:
    """A migration that a test undoes and applies again."""

    def __init__(self, name):
        loader = MigrationLoader(connection)
        self.migration = loader.get_migration("outbox_inbox", name)
        self.before = loader.project_state(self.migration.dependencies)

    def apply(self):
        """Apply it, whatever of it is there."""
        with connection.schema_editor(atomic=False) as editor:
            self.migration.apply(self.before.clone(), editor)

    @contextmanager
    def undone(self):
        """Undo it for a block."""
        with connection.schema_editor(atomic=False) as editor:
            self.migration.unapply(self.before.clone(), editor)
        try:
            yield
        finally:
            self.apply()


@pytest.fixture
def emptied():
    """Return the migration that adds two columns and an index to the table of inbox messages."""
    return Migrated("0013_emptied_messages")


def columns_and_indexes():
    """Return what the table of inbox messages has."""
    with connection.cursor() as cursor:
        table = InboxMessage._meta.db_table
        found = connection.introspection.get_table_description(cursor, table)
        indexes = connection.introspection.get_constraints(cursor, table)
    return {column.name for column in found}, set(indexes)


def old_model(state, name):
    """Return a model as the code knew it after a migration."""
    return (
        MigrationLoader(connection)
        .project_state(("outbox_inbox", state))
        .apps.get_model("outbox_inbox", name)
    )


def test_old_code_goes_on_storing_events():
    """It does not know the columns of later releases, and the database has a value for each."""
    message = {
        "message_id": uuid4(), "type": "shop.Noted", "schema_version": 1, "payload": "{}",
        "headers": "{}", "correlation_id": uuid4(), "recorded_at": timezone.now(),
    }  # fmt: skip
    old = old_model("0004_transfer", "StoredEvent")
    old.objects.create(context="shop", stream="s", version=1, **message)
    row = StoredEvent.objects.get()
    assert (row.kind, row.key_hash, row.hops, row.in_outbox) == ("domain", 0, 0, True)


def test_old_code_goes_on_receiving():
    """A message that it stores is one with its texts."""
    row = rows.inbox_message()
    values = old_model("0011_layout", "InboxMessage").objects.values().get()
    row.delete()
    old_model("0011_layout", "InboxMessage").objects.create(**values)
    assert InboxMessage.objects.get().emptied_at is None


def test_a_migration_is_undone_and_applied_again(emptied):
    """The rows that are there stay, and everything else of the table."""
    row = rows.inbox_message()
    whole = columns_and_indexes()
    with emptied.undone():
        columns, indexes = columns_and_indexes()
        assert whole[0] - columns == {"digest", "emptied_at"}
        assert whole[1] - indexes == {HERE.get(connection.vendor, NAME)}
    assert columns_and_indexes() == whole
    assert InboxMessage.objects.get().pk == row.pk


def test_a_migration_that_was_interrupted_may_be_repeated(emptied):
    """It goes on with what is missing."""
    whole = columns_and_indexes()
    emptied.apply()
    assert columns_and_indexes() == whole


@pytest.mark.postgres
def test_an_index_is_built_beside_writers(emptied):
    """Recording and receiving go on meanwhile."""
    with CaptureQueriesContext(connection) as queries, emptied.undone():
        pass
    made = [each["sql"] for each in queries if f'"{NAME}"' in each["sql"]]
    assert made
    assert all("CONCURRENTLY" in statement for statement in made)


@pytest.mark.postgres
def test_an_index_that_was_not_completed_is_built_anew(emptied):
    """An interrupted build leaves an index that is not used."""
    incomplete = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass"
    with connection.cursor() as cursor:
        cursor.execute(incomplete, [NAME])
    emptied.apply()
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [NAME])
        assert cursor.fetchone() == (True,)
