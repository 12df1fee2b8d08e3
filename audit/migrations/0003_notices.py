"""Notices by mail. What ledgers held before tells of the past: nobody is mailed about it."""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

from audit.rls import protect

OLD_ENTRIES = """
INSERT INTO audit_noticecursor (organization_id, epoch, index)
    SELECT organization_id, epoch, size - 1 FROM audit_head
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_webhooks")]
    operations = [
        migrations.CreateModel(
            name="NoticeCursor",
            fields=[
                ("organization_id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("epoch", models.SmallIntegerField(default=1)),
                ("index", models.BigIntegerField(default=-1)),
            ],
            options={"db_table": "audit_noticecursor"},
        ),
        migrations.CreateModel(
            name="Mail",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField()),
                ("index", models.BigIntegerField()),
                ("user_id", models.CharField(max_length=64)),
                ("act", models.CharField(max_length=64)),
                ("roles", ArrayField(base_field=models.CharField(max_length=16), default=list, size=None)),
                ("project_id", models.CharField(blank=True, default="", max_length=64)),
                ("subject", models.CharField(max_length=200)),
                ("text", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sent", "Sent"),
                            ("dropped", "Dropped"),
                            ("given_up", "Given Up"),
                        ],
                        default="waiting",
                        max_length=16,
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("error", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField()),
                ("sent_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "audit_mail",
                "constraints": (
                    models.UniqueConstraint(
                        fields=["organization_id", "epoch", "index", "user_id"], name="audit_mail_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(state__in=["waiting", "sent", "dropped", "given_up"]),
                        name="audit_mail_state",
                    ),
                ),
                "indexes": (
                    models.Index(
                        fields=["due_at"], condition=models.Q(state="waiting"), name="audit_mail_waiting"
                    ),
                    models.Index(
                        fields=["created_at"],
                        condition=models.Q(state="given_up"),
                        name="audit_mail_given_up",
                    ),
                    models.Index(fields=["created_at"], name="audit_mail_age"),
                ),
            },
        ),
        protect("audit_noticecursor"),
        protect("audit_mail"),
        migrations.RunSQL(OLD_ENTRIES, migrations.RunSQL.noop),
    ]
