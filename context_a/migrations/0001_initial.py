from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OrderSummary",
            fields=[
                ("order_id", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("customer", models.CharField(max_length=100)),
                ("country", models.CharField(max_length=100)),
                ("ordered_on", models.DateField()),
                ("required_on", models.DateField()),
                ("shipped_on", models.DateField(null=True)),
                ("total", models.DecimalField(decimal_places=2, max_digits=20)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("open", "Open"),
                            ("shipped", "Shipped"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="open",
                        max_length=9,
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "order summaries",
            },
        ),
    ]
