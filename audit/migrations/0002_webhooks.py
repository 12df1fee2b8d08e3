"""Webhooks: endpoints, deliveries, attempts."""

from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

from audit.rls import protect

SQL = (Path(__file__).parent / "webhooks.sql").read_text()
REVERSE = """
ALTER TABLE audit_attempt DROP CONSTRAINT attempt_of_same_organization;
ALTER TABLE audit_delivery DROP CONSTRAINT delivery_of_same_organization, DROP CONSTRAINT delivery_of_one_organization;
ALTER TABLE audit_endpointsecret DROP CONSTRAINT secret_of_same_organization;
ALTER TABLE audit_endpoint DROP CONSTRAINT endpoint_of_one_organization;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_ledger")]
    operations = [
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                ("epoch", models.SmallIntegerField(null=True)),
                ("index", models.BigIntegerField(null=True)),
                ("act", models.CharField(max_length=64)),
                ("asked_by", models.CharField(blank=True, default="", max_length=64)),
                ("created_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("delivered", "Delivered"), ("failed", "Failed")],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("attempts", models.SmallIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(null=True)),
                ("claim", models.CharField(blank=True, default="", max_length=32)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                ("at", models.DateTimeField()),
                ("duration_ms", models.IntegerField()),
                ("outcome", models.CharField(max_length=32)),
                ("status", models.SmallIntegerField(null=True)),
                ("detail", models.CharField(blank=True, default="", max_length=300)),
                ("text", models.CharField(blank=True, default="", max_length=1100)),
                (
                    "delivery",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        related_name="tries",
                        to="audit.delivery",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [models.Index(fields=["delivery", "id"], name="attempt_of_delivery")],
            },
        ),
        migrations.CreateModel(
            name="Endpoint",
            fields=[
                ("id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("organization_id", models.CharField(max_length=64)),
                ("url", models.CharField(max_length=2048)),
                ("description", models.CharField(blank=True, default="", max_length=200)),
                (
                    "acts",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64)),
                ),
                ("disabled_at", models.DateTimeField(null=True)),
                (
                    "disabled_reason",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("", "not disabled"),
                            ("person", "somebody disabled it"),
                            ("gone", "it answered 410 Gone"),
                            ("failing", "ten attempts over three days failed"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                ("cursor_epoch", models.SmallIntegerField()),
                ("cursor_index", models.BigIntegerField()),
                ("failing_since", models.DateTimeField(null=True)),
                ("last_delivered_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=64)),
                ("updated_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["organization_id", "id"], name="endpoint_of_organization")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("disabled_at__isnull", True), ("disabled_reason", "")),
                            models.Q(
                                ("disabled_at__isnull", False),
                                models.Q(("disabled_reason", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="endpoint_disabled_for_a_reason",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("acts__len__gt", 0)), name="endpoint_has_acts"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="endpoint",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.DB_CASCADE,
                related_name="deliveries",
                to="audit.endpoint",
            ),
        ),
        migrations.CreateModel(
            name="EndpointSecret",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "endpoint", "version", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("organization_id", models.CharField(max_length=64)),
                ("version", models.IntegerField()),
                ("sealed", models.BinaryField()),
                ("created_at", models.DateTimeField()),
                ("signs_until", models.DateTimeField(null=True)),
                (
                    "endpoint",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DB_CASCADE,
                        related_name="secrets",
                        to="audit.endpoint",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(fields=["endpoint", "-created_at", "-id"], name="delivery_newest_first"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["endpoint", "next_attempt_at"],
                name="delivery_due",
            ),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("finished_at__isnull", False)),
                fields=["finished_at"],
                name="delivery_finished",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("endpoint", "epoch", "index"), name="delivery_once_per_entry"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("finished_at__isnull", True),
                        ("next_attempt_at__isnull", False),
                        ("state", "pending"),
                    ),
                    models.Q(
                        ("finished_at__isnull", False),
                        ("next_attempt_at__isnull", True),
                        ("state__in", ["delivered", "failed"]),
                    ),
                    _connector="OR",
                ),
                name="delivery_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("epoch__isnull", False), ("index__isnull", False)),
                    models.Q(("epoch__isnull", True), ("index__isnull", True)),
                    _connector="OR",
                ),
                name="delivery_place_or_test",
            ),
        ),
        migrations.AddConstraint(
            model_name="endpointsecret",
            constraint=models.UniqueConstraint(
                condition=models.Q(("signs_until__isnull", True)),
                fields=("endpoint",),
                name="endpoint_has_one_newest_secret",
            ),
        ),
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"audit_{table}") for table in ("endpoint", "endpointsecret", "delivery", "attempt")],
    ]
