"""The notary's tables: checkpoints, nodes of the tree, pulse and alarms."""

from pathlib import Path

from django.db import migrations, models

SQL = (Path(__file__).parent / "notary.sql").read_text()
REVERSE = """
DROP FUNCTION audit_notary_of();
DROP TABLE audit_notary, audit_node, audit_checkpoint;
DROP FUNCTION audit_checkpoint_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_notices")]
    operations = [
        migrations.RunSQL(SQL, REVERSE),
        migrations.CreateModel(
            name="Checkpoint",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "epoch",
                        "size",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField()),
                ("size", models.BigIntegerField()),
                ("root", models.BinaryField()),
                ("note", models.TextField()),
                ("signed_at", models.DateTimeField()),
                ("published_at", models.DateTimeField()),
            ],
            options={"db_table": "audit_checkpoint", "managed": False},
        ),
    ]
