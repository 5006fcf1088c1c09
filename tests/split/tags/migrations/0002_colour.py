import os

from django.db import migrations, models

FAILURE = "the database has no room for tags"


def tag_urgent(apps, schema_editor):
    if os.environ.get("TAGS_FAIL"):
        raise ValueError(FAILURE)
    using = schema_editor.connection.alias
    apps.get_model("tags", "Tag").objects.using(using).create(word="urgent")
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("INSERT INTO tags_help (page) VALUES (1)")


class Migration(migrations.Migration):
    dependencies = [("tags", "0001_initial")]
    atomic = not os.environ.get("TAGS_NOT_ATOMIC")
    operations = [
        migrations.RunPython(tag_urgent, migrations.RunPython.noop),
        migrations.AddField("Tag", "colour", models.CharField(max_length=10, default="")),
    ]
