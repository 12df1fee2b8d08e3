"""Erasing sealed personal data: the openings go, the entries and the roots stay."""

from pathlib import Path

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

from audit.rls import protect

SQL = (Path(__file__).parent / "erasure.sql").read_text()
REVERSE = """
DROP TRIGGER audit_sealed_keep ON audit_sealed;
CREATE TRIGGER audit_sealed_keep BEFORE UPDATE OR DELETE ON audit_sealed FOR EACH ROW EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep;
DROP FUNCTION ledger_erase(text, smallint, bigint);
DROP FUNCTION audit_sealed_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_support")]
    operations = [
        migrations.RunSQL(SQL, REVERSE),
        migrations.CreateModel(
            name="Erasure",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                ("person_id", models.CharField(blank=True, default="", max_length=64)),
                (
                    "addresses",
                    ArrayField(base_field=models.CharField(max_length=254), default=list, size=None),
                ),
                ("with_notes", models.BooleanField()),
                ("asked_by", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField(default=1)),
                ("index", models.BigIntegerField(default=-1)),
                ("entries", models.BigIntegerField(default=0)),
                ("fields", models.BigIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "audit_erasure",
                "indexes": (
                    models.Index(
                        fields=["created_at"],
                        condition=models.Q(finished_at__isnull=True),
                        name="erasure_running",
                    ),
                ),
            },
        ),
        protect("audit_erasure"),
    ]
