"""Incidents: what was revoked together, and why."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

import keys.models.incident
from audit.rls import protect

SQL = (Path(__file__).parent / "incidents.sql").read_text()
REVERSE = """
DROP TRIGGER keys_incident_fixed ON keys_incident; DROP FUNCTION keys_incident_fixed();
ALTER TABLE keys_incidentkey DROP CONSTRAINT incident_of_same, DROP CONSTRAINT incident_key_of_same;
ALTER TABLE keys_incident DROP CONSTRAINT incident_of_organization;
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0007_governance"), ("orgs", "0002_guards")]
    operations = [
        migrations.CreateModel(
            name="Incident",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=keys.models.incident.new_incident_id,
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("breakglass", "Break-glass"), ("leak", "Leak")], max_length=16
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                ("source", models.CharField(blank=True, max_length=64)),
                ("url", models.CharField(blank=True, max_length=2048)),
                ("filter", models.JSONField(blank=True, default=dict)),
                ("opened_at", models.DateTimeField()),
                ("opened_by", models.CharField(max_length=64)),
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
        ),
        migrations.CreateModel(
            name="IncidentKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "incident", "key", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("organization_id", models.CharField(max_length=32)),
                ("calls_24h", models.BigIntegerField(null=True)),
                ("last_used_at", models.DateTimeField(null=True)),
                ("last_used_ip", models.GenericIPAddressField(null=True)),
                (
                    "incident",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="keys",
                        to="keys.incident",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="incidents",
                        to="keys.apikey",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="incident",
            index=models.Index(fields=["organization", "-opened_at", "-id"], name="incident_by_time"),
        ),
        migrations.AddIndex(
            model_name="incidentkey",
            index=models.Index(fields=["key", "incident"], name="incident_of_key"),
        ),
        migrations.RunSQL(SQL, REVERSE),
        protect("keys_incident"),
        protect("keys_incidentkey"),
    ]
