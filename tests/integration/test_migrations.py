"""Migrations of tables that are full and in use."""

from contextlib import contextmanager
from uuid import UUID

import pytest
from django.db import IntegrityError, connection
from django.db.migrations.loader import MigrationLoader

from outbox_inbox.models import OutboxMessage, StoredEvent
from outbox_inbox.queues.schema import require_schema
from tests.depot.events import Wanted
from tests.shop.events import Noted
from tests.support.movers import put

ID = UUID(int=4711)
NAMES = {OutboxMessage: "outbox_inbox_out_once", StoredEvent: "outbox_inbox_stream_once"}

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def per_context():
    """Return the migration that makes ids unique in their context, and the state before it."""
    loader = MigrationLoader(connection)
    migration = loader.get_migration("outbox_inbox", "0009_message_id_per_context")
    before = loader.project_state(migration.dependencies)
    require_schema("default")  # a process of older code does not ask for what it does not know

    @contextmanager
    def undone():
        with connection.schema_editor(atomic=False) as editor:
            migration.unapply(before.clone(), editor)
        try:
            yield
        finally:
            apply()

    def apply():
        with connection.schema_editor(atomic=False) as editor:
            migration.apply(before.clone(), editor)

    undone.apply = apply
    return undone


def unique_columns(model):
    """Return the columns of each unique constraint with the message id."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    columns = [each["columns"] for each in found.values() if each["unique"]]
    return sorted(each for each in columns if "message_id" in each)


def test_the_id_is_unique_in_its_context_after_the_migration(per_context):
    """The rows that are there stay, and before it the id was unique in the database."""
    with per_context():
        assert unique_columns(OutboxMessage) == unique_columns(StoredEvent) == [["message_id"]]
        put(Noted(order="a", number=1), stream="a", message_id=ID)
        with pytest.raises(IntegrityError):
            StoredEvent.objects.create(
                **{**StoredEvent.objects.values().get(), "position": 99, "context": "depot"}
            )
    for model in (OutboxMessage, StoredEvent):
        assert unique_columns(model) == [["message_id", "context"]]
        assert model.objects.get().message_id == ID
    put(Wanted(order="b", number=1), stream="b", message_id=ID)


def test_the_migration_may_be_repeated(per_context):
    """It was interrupted after it had done everything."""
    per_context.apply()
    assert unique_columns(OutboxMessage) == [["message_id", "context"]]


@pytest.mark.postgres
def test_an_index_that_was_not_completed_is_built_again(per_context):
    """An interrupted build leaves an index that is not used."""
    name = NAMES[OutboxMessage]
    with per_context(), connection.cursor() as cursor:
        cursor.execute(
            f"CREATE UNIQUE INDEX {name} ON outbox_inbox_outboxmessage (message_id, context)"
        )
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name]
        )
    with connection.cursor() as cursor:
        cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", [name])
        assert cursor.fetchone() == (True,)


@pytest.mark.sqlite
def test_the_migration_keeps_triggers(per_context):
    """On SQLite it copies the table; the guards of a transferred context must stay."""
    with per_context(), connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON outbox_inbox_outboxmessage"
            " WHEN NEW.context = 'shop' BEGIN SELECT RAISE(ABORT, 'closed'); END"
        )
    try:
        with pytest.raises(IntegrityError, match="closed"):
            put(Noted(order="a", number=1))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER refuse")
