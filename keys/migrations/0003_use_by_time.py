"""One index over evidence of use for both directions and for “unused since”; and the join from a key to it."""

import django.db.models.deletion
from django.db import migrations, models

# The column stays as it is: Django learns that `key_id` is a key's.
JOIN = [
    migrations.RemoveField("keyuse", "key_id"),
    migrations.AddField(
        "keyuse",
        "key",
        models.OneToOneField(
            db_constraint=False,
            on_delete=django.db.models.deletion.PROTECT,
            primary_key=True,
            related_name="use",
            serialize=False,
            to="keys.apikey",
        ),
    ),
]


class Migration(migrations.Migration):
    dependencies = [("keys", "0002_guards")]
    operations = [
        migrations.RemoveIndex("keyuse", "key_use_recent"),
        migrations.SeparateDatabaseAndState(state_operations=JOIN),
        migrations.AddIndex(
            "keyuse",
            models.Index(
                "organization_id",
                # Not COALESCE: of CASE the planner knows that it leaks nothing, so that row security lets it be used.
                models.Case(
                    models.When(
                        last_used_at__isnull=True,
                        then=models.Func(
                            template="'-infinity'::timestamptz", output_field=models.DateTimeField()
                        ),
                    ),
                    default=models.F("last_used_at"),
                ),
                "key_id",
                name="key_use_by_time",
            ),
        ),
    ]
