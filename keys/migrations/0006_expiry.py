"""Notices of expiry, and recipients of what rotates by itself."""

from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import keys.models.policy
import keys.models.recipient
from audit.rls import protect

SQL = (Path(__file__).parent / "expiry.sql").read_text()
TABLES = ("due", "notice", "recipient")
REVERSE = """
REVOKE UPDATE (sealed_secret) ON keys_rotation FROM keystead_app;
DROP TRIGGER keys_recipient_fixed ON keys_recipient; DROP TRIGGER keys_sealed_goes ON keys_rotation;
DROP TRIGGER keys_look_again ON keys_apikey;
DROP FUNCTION keys_recipient_fixed(), keys_sealed_goes(), keys_look_again();
DROP INDEX rotation_sealed;
ALTER TABLE keys_rotation DROP CONSTRAINT rotation_sealed_to;
DROP TABLE keys_notice, keys_due;
"""
LEAVER_ACTIONS = [
    ("rotate", "Rotate their keys, and hand them to a team"),
    ("disable", "Disable their keys"),
    ("revoke", "Revoke their keys"),
    ("hand_over", "Hand their keys to a team"),
]


class Migration(migrations.Migration):
    dependencies = [("keys", "0005_staged_rotation")]
    operations = [
        migrations.AddField("apikey", "auto_rotate", models.BooleanField(db_default=False, default=False)),
        migrations.AddConstraint(
            "apikey",
            models.CheckConstraint(
                condition=models.Q(auto_rotate=False) | models.Q(rotation_interval_days__isnull=False),
                name="key_auto_rotation_interval",
            ),
        ),
        migrations.AddField(
            "keypolicy",
            "notice_days",
            django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(), default=keys.models.policy.default_notice_days
            ),
        ),
        migrations.AddField("keypolicy", "auto_grace_seconds", models.PositiveIntegerField(default=86400)),
        migrations.AddField("keypolicy", "leaver_grace_seconds", models.PositiveIntegerField(default=604800)),
        migrations.AlterField(
            "keypolicy",
            "leaver_action",
            models.CharField(choices=LEAVER_ACTIONS, default="disable", max_length=16),
        ),
        migrations.AddField("rotation", "sealed_secret", models.BinaryField(max_length=512, null=True)),
        migrations.AddField(
            "rotation", "sealed_to", models.CharField(blank=True, db_default="", max_length=32)
        ),
        migrations.CreateModel(
            name="Recipient",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=keys.models.recipient.new_recipient_id,
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("public_key", models.BinaryField(max_length=32)),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=32)),
                (
                    "vouched_by",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), size=None
                    ),
                ),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
                ("removed_by", models.CharField(blank=True, max_length=32)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="orgs.organization",
                    ),
                ),
            ],
            options={"ordering": ("-created_at", "-id")},
        ),
        migrations.AddIndex(
            "recipient",
            models.Index(fields=["organization", "-created_at", "-id"], name="recipient_by_created"),
        ),
        migrations.AddConstraint(
            "recipient",
            models.UniqueConstraint(
                condition=models.Q(removed_at__isnull=True),
                fields=("organization", "public_key"),
                name="recipient_once",
            ),
        ),
        migrations.CreateModel(
            name="KeyDue",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key_id", "what", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("key_id", models.CharField(max_length=32)),
                (
                    "what",
                    models.CharField(choices=[("expiry", "Expiry"), ("rotation", "Rotation")], max_length=8),
                ),
                ("organization_id", models.CharField(max_length=32)),
                ("due_at", models.DateTimeField()),
            ],
            options={"db_table": "keys_due", "managed": False},
        ),
        migrations.CreateModel(
            name="Notice",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key_id",
                        "version",
                        "act",
                        "days",
                        "about",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("key_id", models.CharField(max_length=32)),
                ("version", models.PositiveIntegerField()),
                ("act", models.CharField(max_length=24)),
                ("days", models.PositiveSmallIntegerField()),
                ("about", models.DateTimeField()),
                ("organization_id", models.CharField(max_length=32)),
                ("at", models.DateTimeField()),
                ("is_told", models.BooleanField()),
            ],
            options={"db_table": "keys_notice", "managed": False},
        ),
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in TABLES],
    ]
