from django.db import migrations

from outbox_inbox.queues.statements.mysql_schema import AdaptToMySQL


class Migration(migrations.Migration):
    """Give MySQL and MariaDB what the other databases have from the models alone."""

    dependencies = [("outbox_inbox", "0002_quarantine")]

    # One index serves what is to be moved now, what becomes due, what is dead and the counts.
    operations = [
        AdaptToMySQL(
            indexes={
                "outboxmessage": {
                    "outbox_inbox_out_state": ["state", "context", "partition", "due_at"],
                    "outbox_inbox_out_state_key": ["state", "context", "partition", "key"],
                    "outbox_inbox_out_held_key": ["holds", "context", "partition", "key"],
                },
                "delivery": {
                    "outbox_inbox_del_state": ["state", "context", "partition", "due_at"],
                    "outbox_inbox_del_state_key": [
                        "state",
                        "context",
                        "partition",
                        "consumer",
                        "key",
                    ],
                    "outbox_inbox_del_held_key": [
                        "holds",
                        "context",
                        "partition",
                        "consumer",
                        "key",
                    ],
                },
                "inboxmessage": {},
                "deliveryattempt": {},
                "storedevent": {},
                "partition": {},
                "quarantinedmessage": {
                    "outbox_inbox_quarantine_state": ["state", "context"],
                },
            }
        )
    ]
