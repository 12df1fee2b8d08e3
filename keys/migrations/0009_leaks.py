"""Leaks, and the networks that a key is known from; what was found about keys."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

from audit.rls import protect

SQL = (Path(__file__).parent / "leaks.sql").read_text()
TABLES = ("keynetwork", "keyfinding", "healthrun")
REVERSE = """
CREATE OR REPLACE FUNCTION keys_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.keys_keyuse (key_id, organization_id) VALUES (NEW.id, NEW.organization_id);
    ELSIF (NEW.scopes, NEW.tags) IS NOT DISTINCT FROM (OLD.scopes, OLD.tags) THEN
        RETURN NULL;
    ELSE
        DELETE FROM public.keys_term WHERE key_id = NEW.id;
    END IF;
    INSERT INTO public.keys_term SELECT NEW.organization_id, term, NEW.id FROM public.keys_terms_of(NEW) AS term;
    RETURN NULL;
END $$;
ALTER TABLE keys_term DROP COLUMN since;
DROP FUNCTION networks_learn(integer), networks_add(xid8, xid8), networks_retain();
DROP TABLE keys_healthrun, keys_keyfinding, keys_networkmark, keys_keynetwork;
ALTER TABLE keys_leak DROP CONSTRAINT leak_of_same;
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0008_incidents")]
    operations = [
        migrations.CreateModel(
            name="HealthRun",
            fields=[
                ("organization_id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("looked_at", models.DateTimeField()),
                ("looked_at_all_at", models.DateTimeField()),
            ],
            options={
                "db_table": "keys_healthrun",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="KeyFinding",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "finding",
                        "key_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=32)),
                (
                    "finding",
                    models.CharField(
                        choices=[
                            ("refused", "Refused often"),
                            ("regions", "Used in several regions"),
                            ("networks", "Used from many networks"),
                            ("unused_scopes", "Unused scopes"),
                            ("no_owner", "Nobody answers for it"),
                            ("above_plan", "Limit above the plan"),
                        ],
                        max_length=16,
                    ),
                ),
                ("key_id", models.CharField(max_length=32)),
            ],
            options={
                "db_table": "keys_keyfinding",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="KeyNetwork",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "key_id", "network", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("key_id", models.CharField(max_length=32)),
                ("network", models.CharField(max_length=43)),
                ("organization_id", models.CharField(max_length=32)),
                ("first_seen_at", models.DateTimeField()),
                ("first_ip", models.GenericIPAddressField()),
                ("first_region", models.CharField(max_length=64)),
                ("last_seen_on", models.DateField()),
                ("is_due", models.BooleanField()),
                ("told_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "keys_keynetwork",
                "managed": False,
            },
        ),
        migrations.AddField(
            model_name="keypolicy",
            name="leak_action",
            field=models.CharField(
                choices=[
                    ("revoke", "Revoke the key, for good"),
                    ("quarantine", "Quarantine it: disabled until somebody enables it"),
                ],
                default="revoke",
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="Leak",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=32)),
                ("version", models.PositiveIntegerField()),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("github", "GitHub's secret scanning"),
                            ("burned", "Whoever held the secret"),
                        ],
                        max_length=16,
                    ),
                ),
                ("url", models.CharField(blank=True, max_length=1000)),
                ("place", models.CharField(max_length=64)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("revoked", "The key was revoked"),
                            ("quarantined", "The key was disabled"),
                            ("retired", "The secret was retired"),
                            ("nothing", "The secret was refused already"),
                        ],
                        max_length=16,
                    ),
                ),
                ("incident_id", models.CharField(blank=True, max_length=32)),
                ("found_at", models.DateTimeField()),
                (
                    "key",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="leaks",
                        to="keys.apikey",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("key", "version", "place"), name="leak_once")
                ],
            },
        ),
        migrations.AddField(
            model_name="keyterm",
            name="since",
            field=models.DateTimeField(null=True),
        ),
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in ("leak", *TABLES)],
    ]
