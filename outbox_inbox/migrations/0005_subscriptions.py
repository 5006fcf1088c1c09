from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.expressions import RawSQL

from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL
from outbox_inbox.queues.statements.schema import add_transaction_ids


def _follow_by_transaction(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        model = apps.get_model("outbox_inbox", "StoredEvent")
        add_transaction_ids(schema_editor, model._meta.db_table)


def _forget_transactions(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    name = schema_editor.quote_name(apps.get_model("outbox_inbox", "StoredEvent")._meta.db_table)
    schema_editor.execute(f"ALTER TABLE {name} DROP COLUMN xid")


class Migration(migrations.Migration):
    """Make the stream readable from front to back.

    The events that are there, and those that old code still records, went through the outbox, so nothing
    will ask for their hash, hops and kind: any value will do.
    """

    dependencies = [("outbox_inbox", "0004_transfer")]

    operations = [
        migrations.AddField(
            model_name="storedevent",
            name="kind",
            field=models.CharField(
                choices=[("domain", "domain event"), ("integration", "integration event")],
                db_default=RawSQL("'domain'", ()),
                max_length=11,
            ),
        ),
        migrations.AddField(
            model_name="storedevent",
            name="key_hash",
            field=models.BigIntegerField(db_default=RawSQL("0", ())),
        ),
        migrations.AddField(
            model_name="storedevent",
            name="hops",
            field=models.PositiveSmallIntegerField(db_default=RawSQL("0", ())),
        ),
        migrations.AddField(
            model_name="storedevent",
            name="in_outbox",
            field=models.BooleanField(db_default=RawSQL("TRUE", ())),
        ),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("context", models.CharField(max_length=50)),
                ("subscription", models.CharField(max_length=200)),
                ("done", models.TextField(default="")),
                ("target", models.TextField(null=True)),
                ("position", models.BigIntegerField(default=0)),
                ("last", models.BigIntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                ("cluster", models.CharField(default="", max_length=20)),
                ("paused", models.BooleanField(default=False)),
                ("retry_at", models.DateTimeField(null=True)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("error", models.TextField(default="")),
                ("changed_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "checkpoint",
                "permissions": [("pause_checkpoint", "Can pause and resume subscriptions")],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        models.F("context"),
                        models.F("subscription"),
                        name="outbox_inbox_checkpoint_once",
                    )
                ],
            },
        ),
        migrations.RunPython(
            _follow_by_transaction, _forget_transactions, hints={"model_name": "storedevent"}
        ),
        AdaptToMySQL(indexes={"checkpoint": {}}),
    ]
