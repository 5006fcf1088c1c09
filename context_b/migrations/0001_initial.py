from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="CountryBoard",
            fields=[
                ("country", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("orders", models.IntegerField(default=0)),
                ("revenue", models.DecimalField(decimal_places=2, default=0, max_digits=20)),
            ],
            options={
                "verbose_name_plural": "country board",
            },
        ),
        migrations.CreateModel(
            name="Shipment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("reference", models.CharField(max_length=100, unique=True)),
                ("destination", models.CharField(max_length=100)),
                ("due_on", models.DateField()),
                ("dispatched_on", models.DateField(null=True)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("booked", "Booked"),
                            ("dispatched", "Dispatched"),
                            ("called off", "Called Off"),
                        ],
                        default="booked",
                        max_length=10,
                    ),
                ),
            ],
        ),
    ]
