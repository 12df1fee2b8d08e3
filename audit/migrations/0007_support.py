"""What staff opened in the support console."""

from pathlib import Path

from django.db import migrations, models

from audit.rls import protect

SQL = (Path(__file__).parent / "support.sql").read_text()
REVERSE = """
DROP FUNCTION audit_search_everywhere(text[], boolean, text[], text[], text, text, text[], timestamptz, timestamptz,
    timestamptz, text, integer, bigint, integer), audit_search_where(text[], boolean, text[]);
DROP TRIGGER support_times ON audit_supportsession;
DROP FUNCTION audit_support_times();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_exports")]
    operations = [
        migrations.CreateModel(
            name="SupportSession",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                (
                    "kind",
                    models.CharField(choices=[("visit", "a visit"), ("search", "searches")], max_length=8),
                ),
                ("user_id", models.CharField(max_length=64)),
                ("reason", models.CharField(blank=True, max_length=400)),
                ("minutes", models.SmallIntegerField()),
                ("opened_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "ended_why",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "open"),
                            ("left", "left"),
                            ("lapsed", "the time was up"),
                            ("replaced", "another one was opened"),
                            ("signed_out", "signed out"),
                            ("role_lost", "no longer support staff"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["expires_at"],
                        condition=models.Q(ended_at__isnull=True),
                        name="support_lapsing",
                    ),
                    models.Index(fields=["organization_id", "-opened_at"], name="support_of_organization"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["user_id", "kind"],
                        condition=models.Q(ended_at__isnull=True),
                        name="support_one_at_a_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(minutes__gte=1, minutes__lte=240), name="support_four_hours"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(ended_at__isnull=True, ended_why="")
                        | models.Q(ended_at__isnull=False, reason="") & ~models.Q(ended_why=""),
                        name="support_ended_for_a_reason",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(kind__in=["visit", "search"]), name="support_kind_known"
                    ),
                ],
            },
        ),
        migrations.RunSQL(SQL, REVERSE),
        protect("audit_supportsession"),
    ]
