from zlib import crc32

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.utils import timezone

from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL


def _remember_consumers(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Note the consumers of unfinished deliveries; those that the code has are confirmed afterwards."""
    using = editor.connection.alias
    deliveries = apps.get_model("outbox_inbox", "Delivery").objects.using(using)
    found = deliveries.filter(state__in=("ready", "waiting", "dead")).order_by()
    now = timezone.now()
    interest = apps.get_model("outbox_inbox", "Interest")
    interest.objects.using(using).bulk_create(
        interest(
            context=context,
            kind="consumer",
            name=consumer,
            type=type_name,
            schema_version=1,
            hash=crc32(consumer.encode()),
            confirmed_at=now,
            retired_at=now,
        )
        for context, consumer, type_name in found.values_list(
            "context", "consumer", "message__type"
        ).distinct()
    )


class Migration(migrations.Migration):
    dependencies = [
        ("outbox_inbox", "0007_processes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Interest",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("context", models.CharField(max_length=50)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("consumer", "consumer"),
                            ("contract", "contract"),
                            ("projection", "projection"),
                        ],
                        max_length=10,
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("type", models.CharField(max_length=200)),
                ("schema_version", models.PositiveIntegerField()),
                ("hash", models.BigIntegerField()),
                ("alias", models.CharField(default="", max_length=100)),
                ("confirmed_at", models.DateTimeField()),
                ("retired_at", models.DateTimeField(null=True)),
                ("renamed_to", models.CharField(default="", max_length=200)),
            ],
            options={
                "verbose_name": "interest",
                "abstract": False,
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        models.F("context"),
                        models.F("kind"),
                        models.F("type"),
                        models.F("name"),
                        name="outbox_inbox_interest_once",
                    )
                ],
            },
        ),
        AdaptToMySQL(indexes={"interest": {}}),
        migrations.RunPython(
            _remember_consumers, migrations.RunPython.noop, hints={"model_name": "interest"}
        ),
    ]
