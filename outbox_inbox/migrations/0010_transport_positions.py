from django.db import migrations, models
from django.db.models.expressions import RawSQL


class Migration(migrations.Migration):
    """Remember how far a transport was read and published to."""

    dependencies = [("outbox_inbox", "0009_message_id_per_context")]

    operations = [
        migrations.AddField(
            model_name="partition",
            name="positions",
            field=models.TextField(db_default=RawSQL("''", ()), default=""),
        ),
    ]
