from django.db import migrations, models

from outbox_inbox.queues.statements.online_schema import AddUnique, AlterUnique


class Migration(migrations.Migration):
    """Let two contexts on one database use the same message id.

    The new constraints are there before the old ones go, so no moment is without one. It is not
    atomic: PostgreSQL builds an index beside writers only outside of a transaction.
    """

    atomic = False

    dependencies = [("outbox_inbox", "0008_interests")]

    operations = [
        AddUnique(
            model_name="outboxmessage",
            constraint=models.UniqueConstraint(
                models.F("message_id"), models.F("context"), name="outbox_inbox_out_once"
            ),
        ),
        AddUnique(
            model_name="storedevent",
            constraint=models.UniqueConstraint(
                models.F("message_id"), models.F("context"), name="outbox_inbox_stream_once"
            ),
        ),
        AlterUnique(model_name="outboxmessage", name="message_id", field=models.UUIDField()),
        AlterUnique(model_name="storedevent", name="message_id", field=models.UUIDField()),
    ]
