from django.db import migrations, models

from outbox_inbox.queues.statements.online_schema import AddColumn, AddQueueIndex


class Migration(migrations.Migration):
    """Let inbox messages lose their texts before their ids; not atomic, as `online_schema` says."""

    atomic = False

    dependencies = [("outbox_inbox", "0012_operator_actions")]

    operations = [
        AddColumn(
            model_name="inboxmessage",
            name="digest",
            field=models.CharField(max_length=129, null=True),
        ),
        AddColumn(
            model_name="inboxmessage",
            name="emptied_at",
            field=models.DateTimeField(null=True),
        ),
        AddQueueIndex(
            model_name="inboxmessage",
            index=models.Index(
                models.F("id"),
                condition=models.Q(("emptied_at__isnull", True)),
                name="outbox_inbox_in_full",
            ),
            on_mysql=["emptied_at"],
        ),
    ]
