"""Exports of the security log: what was asked for, and its bytes in parts."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

from audit.rls import protect

SQL = (Path(__file__).parent / "exports.sql").read_text()
REVERSE = """
DROP FUNCTION audit_exports_forget(text);
ALTER TABLE audit_exportpart DROP CONSTRAINT part_of_same_organization, DROP CONSTRAINT part_is_small;
ALTER TABLE audit_export DROP CONSTRAINT export_of_one_organization;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_search")]
    operations = [
        migrations.CreateModel(
            name="Export",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                (
                    "format",
                    models.CharField(
                        choices=[("bundle", "Offline bundle"), ("csv", "CSV"), ("jsonl", "JSON lines")],
                        max_length=16,
                    ),
                ),
                ("filters", models.JSONField(default=dict)),
                ("epoch", models.SmallIntegerField(null=True)),
                ("old_note", models.TextField(blank=True, default="")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("ready", "Ready"),
                            ("failed", "Failed"),
                        ],
                        default="queued",
                        max_length=16,
                    ),
                ),
                ("reason", models.CharField(blank=True, default="", max_length=300)),
                ("claim", models.CharField(blank=True, default="", max_length=32)),
                ("attempts", models.SmallIntegerField(default=0)),
                ("done", models.BigIntegerField(default=0)),
                ("total", models.BigIntegerField(default=0)),
                ("entries", models.BigIntegerField(default=0)),
                ("size", models.BigIntegerField(default=0)),
                ("sha256", models.CharField(blank=True, default="", max_length=64)),
                ("asked_by", models.CharField(max_length=64)),
                ("asked_name", models.CharField(blank=True, default="", max_length=200)),
                ("created_at", models.DateTimeField()),
                ("ready_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization_id", "-created_at"], name="export_newest_first"),
                    models.Index(fields=["expires_at"], name="export_over"),
                    models.Index(
                        condition=models.Q(("state__in", ["queued", "running"])),
                        fields=["id"],
                        name="export_unfinished",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("claim", ""),
                                ("ready_at__isnull", False),
                                ("state", "ready"),
                                models.Q(("sha256", ""), _negated=True),
                            ),
                            models.Q(
                                ("ready_at__isnull", True),
                                ("sha256", ""),
                                ("state", "running"),
                                models.Q(("claim", ""), _negated=True),
                            ),
                            models.Q(("claim", ""), ("sha256", ""), ("state__in", ["queued", "failed"])),
                            _connector="OR",
                        ),
                        name="export_state",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="ExportPart",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "export", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("number", models.IntegerField()),
                ("piece", models.BinaryField()),
                (
                    "export",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        related_name="parts",
                        to="audit.export",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["organization_id"], name="exportpart_of_organization")],
            },
        ),
        migrations.RunSQL(SQL, REVERSE),
        protect("audit_export"),
        protect("audit_exportpart"),
    ]
