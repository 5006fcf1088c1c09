from django.db import migrations, models

from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL


class Migration(migrations.Migration):
    """Store what is in force for the queues of a context; the rows are made after each migrate."""

    dependencies = [("outbox_inbox", "0010_transport_positions")]

    operations = [
        migrations.CreateModel(
            name="QueueLayout",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("context", models.CharField(max_length=50)),
                ("source", models.CharField(max_length=6)),
                ("outbox", models.PositiveSmallIntegerField()),
                ("inbox", models.PositiveSmallIntegerField()),
            ],
            options={
                "verbose_name": "queue layout",
                "abstract": False,
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(models.F("context"), name="outbox_inbox_layout_once")
                ],
            },
        ),
        AdaptToMySQL(indexes={"queuelayout": {}}),
    ]
