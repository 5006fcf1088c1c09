from django.db import migrations


def add_clerks(apps, schema_editor):
    apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias).create(
        name="clerks"
    )


class Migration(migrations.Migration):
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(add_clerks, migrations.RunPython.noop)]
