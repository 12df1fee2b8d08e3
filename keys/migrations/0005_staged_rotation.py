"""Staged rotations: their targets, what ends them, and evidence for each (`staged_rotation.sql`)."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

from audit.rls import protect


def before(sql, name):
    """Return the statement that made a function as it was."""
    start = sql.index(f"CREATE FUNCTION {name}(")
    end = sql.index("END $$;", start)
    return sql[start : end + len("END $$;")].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


SQL = (Path(__file__).parent / "staged_rotation.sql").read_text()
# What grew old before the worker wrote such ends down: nobody is told of it now.
ENDED = """
UPDATE keys_rotation SET completed_at = grace_ends_at
    WHERE superseded_at IS NULL AND completed_at IS NULL AND grace_ends_at <= now();
"""
GUARDS = (Path(__file__).parent / "guards.sql").read_text()
USAGE = (Path(__file__).parent / "usage.sql").read_text()
REVERSE = f"""
DROP TRIGGER keys_begin_rotation ON keys_rotation; DROP TRIGGER keys_begin_rotation ON keys_rotationtarget;
DROP TRIGGER keys_hold_rotation ON keys_apikey; DROP TRIGGER keys_follow_acceptance ON keys_keysecret;
DROP TRIGGER keys_rotation_fixed ON keys_rotation; DROP TRIGGER keys_target_fixed ON keys_rotationtarget;
{before(GUARDS, "keys_key_fixed")} {before(GUARDS, "keys_secret_fixed")} {before(USAGE, "usage_roll_up")}
ALTER TABLE keys_usagemark DROP COLUMN rolled_at;
DROP FUNCTION rotation_fold(xid8, xid8), rotation_begin(text), rotation_add_up(keys_rotationuse[]),
    rotation_uses(text[], keys_call[]), keys_begin_rotation(), keys_hold_rotation(), keys_follow_acceptance(), keys_rotation_fixed(),
    keys_target_fixed(), keys_is_given_back(text, integer, timestamptz);
DROP TABLE keys_rotationseen, keys_rotationuse;
ALTER TABLE keys_rotationtarget DROP CONSTRAINT rotation_target_of_same;
ALTER TABLE keys_rotation DROP CONSTRAINT rotation_of_organization;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0004_narrowing"),
    ]

    operations = [
        migrations.CreateModel(
            name="RotationSeen",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "rotation_id", "name", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("rotation_id", models.CharField(max_length=32)),
                ("name", models.CharField(max_length=64)),
                ("organization_id", models.CharField(max_length=32)),
                ("old_last_used_at", models.DateTimeField(null=True)),
                ("new_last_used_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "keys_rotationseen",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="RotationUse",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "rotation_id",
                        "minute",
                        "is_new",
                        "name",
                        "source",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("rotation_id", models.CharField(max_length=32)),
                ("minute", models.DateTimeField()),
                ("is_new", models.BooleanField()),
                ("name", models.CharField(max_length=64)),
                ("source", models.CharField(max_length=320)),
                ("organization_id", models.CharField(max_length=32)),
                ("ip", models.GenericIPAddressField(null=True)),
                ("user_agent", models.CharField(max_length=256)),
                ("is_other", models.BooleanField()),
                ("calls", models.BigIntegerField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "db_table": "keys_rotationuse",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="RotationTarget",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "rotation_id", "name", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "rotation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="targets",
                        to="keys.rotation",
                    ),
                ),
                ("name", models.CharField(db_collation="C", max_length=64)),
                ("organization_id", models.CharField(max_length=32)),
                ("position", models.PositiveSmallIntegerField()),
                ("moved_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "ordering": ("position",),
            },
        ),
        migrations.AddField(
            model_name="keypolicy",
            name="staged_cut_off_at_deadline",
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name="rotation",
            name="cancelled_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="cancelled_by",
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AddField(
            model_name="rotation",
            name="completed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="completed_by",
            field=models.CharField(blank=True, max_length=32),
        ),
        migrations.AddField(
            model_name="rotation",
            name="deadline",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="held_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="overdue_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="quiet_seconds",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="rotation",
            name="mode",
            field=models.CharField(
                choices=[("immediate", "immediate"), ("grace", "grace"), ("staged", "staged")], max_length=16
            ),
        ),
        migrations.RunSQL(ENDED, migrations.RunSQL.noop),
        migrations.AddIndex(
            model_name="rotation",
            index=models.Index(fields=["organization_id", "-started_at", "-id"], name="rotation_by_start"),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.UniqueConstraint(
                condition=models.Q(("cancelled_at", None), ("completed_at", None), ("superseded_at", None)),
                fields=("key",),
                name="rotation_one_at_a_time",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("cancelled_at", None), ("completed_at", None)),
                    models.Q(("completed_at", None), ("superseded_at", None)),
                    models.Q(("cancelled_at", None), ("superseded_at", None)),
                    _connector="OR",
                ),
                name="rotation_one_end",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("deadline__isnull", False),
                        ("mode", "staged"),
                        ("quiet_seconds__gte", 1),
                        ("quiet_seconds__lte", 86400),
                    ),
                    models.Q(
                        models.Q(("mode", "staged"), _negated=True),
                        ("deadline", None),
                        ("overdue_at", None),
                        ("quiet_seconds", None),
                    ),
                    _connector="OR",
                ),
                name="rotation_staged_whole",
            ),
        ),
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in ("rotationtarget", "rotationseen", "rotationuse")],
    ]
