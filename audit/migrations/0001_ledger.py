"""The ledger's tables, functions, triggers and rights, as one piece of SQL beside this file."""

from pathlib import Path

from django.db import migrations, models

SQL = (Path(__file__).parent / "ledger.sql").read_text()
REVERSE = """
DROP FUNCTION ledger_begin(text, text), ledger_append(text, bytea[], jsonb);
DROP TABLE audit_sealed, audit_entry, audit_head;
DROP FUNCTION audit_reaches(text), audit_refuse(), audit_head_grows(), audit_read(bytea), audit_canonical(jsonb, integer),
    audit_scalar(jsonb), audit_commitment(text, text, bytea), audit_is_vkey(text, text), audit_is_origin(text, text);
"""


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(SQL, REVERSE),
        migrations.CreateModel(
            name="Entry",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "epoch",
                        "index",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField(default=1)),
                ("index", models.BigIntegerField()),
                ("leaf", models.BinaryField()),
                ("act", models.CharField(max_length=64)),
                ("actor", models.CharField(max_length=64)),
                ("target", models.CharField(max_length=64)),
                ("request_id", models.CharField(max_length=128)),
                ("at", models.DateTimeField()),
            ],
            options={"db_table": "audit_entry", "managed": False},
        ),
        migrations.CreateModel(
            name="Sealed",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "epoch",
                        "index",
                        "field",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField(default=1)),
                ("index", models.BigIntegerField()),
                ("field", models.CharField(max_length=32)),
                ("salt", models.BinaryField()),
                ("value", models.TextField()),
            ],
            options={"db_table": "audit_sealed", "managed": False},
        ),
        migrations.CreateModel(
            name="Head",
            fields=[
                ("organization_id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("origin", models.CharField(max_length=200)),
                ("epoch", models.SmallIntegerField()),
                ("size", models.BigIntegerField()),
                ("last_hash", models.BinaryField()),
                ("last_at", models.DateTimeField()),
            ],
            options={"db_table": "audit_head", "managed": False},
        ),
    ]
