import django.db.models.deletion
from django.db import migrations, models

from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL


class Migration(migrations.Migration):
    """Store what operators do to messages: name, time and reason, and what the message was before."""

    dependencies = [
        ("outbox_inbox", "0011_layout"),
    ]

    operations = [
        migrations.CreateModel(
            name="OperatorAction",
            fields=[
                ("context", models.CharField(max_length=50)),
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "verb",
                    models.CharField(
                        choices=[
                            ("retried", "retried"),
                            ("discarded", "discarded"),
                            ("released", "released"),
                        ],
                        max_length=9,
                        verbose_name="action",
                    ),
                ),
                ("operator", models.CharField(max_length=200)),
                ("done_at", models.DateTimeField()),
                ("attempts", models.PositiveIntegerField()),
                ("error", models.TextField()),
                ("reason", models.TextField()),
                (
                    "delivery",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="operator_actions",
                        to="outbox_inbox.delivery",
                    ),
                ),
                (
                    "outbox_message",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="operator_actions",
                        to="outbox_inbox.outboxmessage",
                    ),
                ),
                (
                    "quarantined_message",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="operator_actions",
                        to="outbox_inbox.quarantinedmessage",
                    ),
                ),
            ],
            options={
                "verbose_name": "operator action",
                "abstract": False,
                "default_permissions": ("view",),
            },
        ),
        AdaptToMySQL(indexes={"operatoraction": {}}),
    ]
