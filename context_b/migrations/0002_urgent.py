"""Shipments that ordering has called overdue."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shipping", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="shipment",
            name="urgent",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
