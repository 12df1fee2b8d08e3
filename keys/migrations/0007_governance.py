"""Approvals and executions of service keys, and the keys that are bound to approvals (`governance.sql`)."""

import datetime
from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.db import migrations, models

import keys.models.governance
from audit.rls import protect

HERE = Path(__file__).parent
SQL = (HERE / "governance.sql").read_text()
APPROVALS_REQUIRED = [
    ("none", "No, whoever makes the key decides"),
    ("production", "Yes, in production"),
    ("always", "Yes, in every environment"),
]
TABLES = ("approval", "approvalspend", "approvaluse", "execution")
NARROWING = (HERE / "narrowing.sql").read_text()
NARROWED = NARROWING[
    NARROWING.index("CREATE FUNCTION keys_narrowed_keys") : NARROWING.index(
        "-- Verification moves a used secret"
    )
].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
REVERSE = f"""
DROP POLICY verify ON keys_approval; DROP POLICY verify ON keys_approvalspend; DROP POLICY verify ON keys_approvaluse;
REVOKE ALL ON keys_approval, keys_approvalspend, keys_approvaluse FROM keystead_verify;
DROP INDEX keys_call_by_incident, keys_call_by_request;
ALTER TABLE keys_call DROP COLUMN incident;
{NARROWED}
DROP TRIGGER keys_follow_approval ON keys_approval; DROP TRIGGER keys_approval_fixed ON keys_approval;
DROP TRIGGER keys_key_stays_bound ON keys_apikey;
DROP FUNCTION keys_people_behind(text, integer), keys_follow_approval(), keys_approval_fixed(), keys_key_stays_bound();
ALTER TABLE keys_execution DROP CONSTRAINT execution_approval_of_same, DROP CONSTRAINT execution_of_same;
ALTER TABLE keys_approval DROP CONSTRAINT approval_not_of_behind, DROP CONSTRAINT approval_of_key,
    DROP CONSTRAINT approval_of_same;
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0006_expiry")]
    operations = [
        migrations.CreateModel(
            name="Approval",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=keys.models.governance.new_approval_id,
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=32)),
                ("scope", models.CharField(db_collation="C", max_length=65)),
                ("resource", models.CharField(blank=True, max_length=128)),
                ("parameters_digest", models.CharField(db_collation="C", max_length=64)),
                ("parameters", models.JSONField(blank=True, null=True)),
                ("steps", models.JSONField(blank=True, default=list)),
                ("reason", models.TextField()),
                ("incident", models.CharField(blank=True, db_collation="C", max_length=128)),
                ("request_id", models.CharField(blank=True, db_collation="C", max_length=128)),
                ("valid_until", models.DateTimeField()),
                ("uses", models.PositiveSmallIntegerField(default=1)),
                ("requested_at", models.DateTimeField()),
                ("requested_by", models.CharField(max_length=32)),
                ("requested_version", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "behind",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), blank=True, default=list
                    ),
                ),
                ("decision", models.CharField(blank=True, default="", max_length=8)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("decided_by", models.CharField(blank=True, default="", max_length=32)),
                ("note", models.TextField(blank=True, default="")),
                ("expired_told_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="ApprovalUse",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "approval_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("approval_id", models.CharField(max_length=32)),
                ("number", models.PositiveSmallIntegerField()),
                ("organization_id", models.CharField(max_length=32)),
                ("key_id", models.CharField(max_length=32)),
                ("at", models.DateTimeField()),
                ("ip", models.GenericIPAddressField(null=True)),
                ("request_id", models.CharField(max_length=128)),
                ("verifier_id", models.CharField(max_length=32)),
                ("told_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Execution",
            fields=[
                (
                    "id",
                    models.CharField(
                        default=keys.models.governance.new_execution_id,
                        editable=False,
                        max_length=32,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("organization_id", models.CharField(max_length=32)),
                ("execution", models.CharField(db_collation="C", max_length=128)),
                ("incident", models.CharField(blank=True, db_collation="C", max_length=128)),
                ("request_id", models.CharField(blank=True, db_collation="C", max_length=128)),
                ("steps", models.JSONField()),
                ("parameters_digest", models.CharField(db_collation="C", max_length=64)),
                (
                    "verdict",
                    models.CharField(
                        choices=[("equal", "equal"), ("mismatch", "mismatch"), ("no_plan", "no_plan")],
                        max_length=8,
                    ),
                ),
                ("recorded_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddField(
            model_name="apikey",
            name="approval_bound",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(("approval_bound", False), ("kind", "service"), _connector="OR"),
                name="key_bound_is_service",
            ),
        ),
        migrations.AddField(
            model_name="approval",
            name="key",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="approvals",
                to="keys.apikey",
            ),
        ),
        migrations.AddField(
            model_name="execution",
            name="approval",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="executions",
                to="keys.approval",
            ),
        ),
        migrations.AddField(
            model_name="execution",
            name="key",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="executions",
                to="keys.apikey",
            ),
        ),
        migrations.CreateModel(
            name="ApprovalSpend",
            fields=[
                (
                    "approval",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="spend",
                        serialize=False,
                        to="keys.approval",
                    ),
                ),
                ("organization_id", models.CharField(max_length=32)),
                ("uses", models.PositiveSmallIntegerField()),
                ("spent", models.PositiveSmallIntegerField(db_default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("spent__lte", models.F("uses"))), name="approval_spent"
                    )
                ],
            },
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(fields=["organization_id", "-requested_at", "-id"], name="approval_by_time"),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(fields=["key", "-requested_at"], name="approval_by_key"),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(
                condition=models.Q(("incident", ""), _negated=True),
                fields=["organization_id", "incident"],
                name="approval_by_incident",
            ),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(
                condition=models.Q(("request_id", ""), _negated=True),
                fields=["organization_id", "request_id"],
                name="approval_by_request",
            ),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=models.Index(
                condition=models.Q(
                    ("expired_told_at__isnull", True),
                    models.Q(("decision", "denied"), _negated=True),
                ),
                fields=["valid_until"],
                name="approval_ending",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(("uses__gte", 1), ("uses__lte", 100)), name="approval_uses"
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(("parameters_digest__regex", "^[0-9a-f]{64}$")), name="approval_digest"
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="approval_reason"
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("valid_until__gt", models.F("requested_at")),
                    (
                        "valid_until__lte",
                        django.db.models.expressions.CombinedExpression(
                            models.F("requested_at"), "+", models.Value(datetime.timedelta(days=1))
                        ),
                    ),
                ),
                name="approval_validity",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("decided_at__isnull", True), ("decided_by", ""), ("decision", "")),
                    models.Q(
                        ("decided_at__isnull", False),
                        ("decision__in", ["granted", "denied"]),
                        ("decided_by__startswith", "usr_"),
                    ),
                    _connector="OR",
                ),
                name="approval_decision_whole",
            ),
        ),
        migrations.AddConstraint(
            model_name="approval",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("decided_by", ""),
                    models.Q(("decided_by", models.F("requested_by")), _negated=True),
                    _connector="OR",
                ),
                name="approval_not_ones_own",
            ),
        ),
        migrations.AddIndex(
            model_name="approvaluse",
            index=models.Index(
                condition=models.Q(("told_at__isnull", True)), fields=["at"], name="approval_use_untold"
            ),
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                condition=models.Q(("incident", ""), _negated=True),
                fields=["organization_id", "incident"],
                name="execution_by_incident",
            ),
        ),
        migrations.AddIndex(
            model_name="execution",
            index=models.Index(
                condition=models.Q(("request_id", ""), _negated=True),
                fields=["organization_id", "request_id"],
                name="execution_by_request",
            ),
        ),
        migrations.AddConstraint(
            model_name="execution",
            constraint=models.UniqueConstraint(fields=("key", "execution"), name="execution_once"),
        ),
        migrations.AddConstraint(
            model_name="execution",
            constraint=models.CheckConstraint(
                condition=models.Q(("parameters_digest__regex", "^[0-9a-f]{64}$")), name="execution_digest"
            ),
        ),
        migrations.AddField(
            model_name="keypolicy",
            name="approvals_required",
            field=models.CharField(choices=APPROVALS_REQUIRED, default="none", max_length=16),
        ),
        migrations.AddField(
            model_name="keypolicy",
            name="approval_max_hours",
            field=models.PositiveSmallIntegerField(default=24),
        ),
        migrations.AddField(
            model_name="keypolicy",
            name="approval_max_uses",
            field=models.PositiveSmallIntegerField(default=100),
        ),
        migrations.AddConstraint(
            model_name="keypolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("approvals_required__in", ["none", "production", "always"])),
                name="policy_approvals_required",
            ),
        ),
        migrations.AddConstraint(
            model_name="keypolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("approval_max_hours__gte", 1), ("approval_max_hours__lte", 24)),
                name="policy_approval_hours",
            ),
        ),
        migrations.AddConstraint(
            model_name="keypolicy",
            constraint=models.CheckConstraint(
                condition=models.Q(("approval_max_uses__gte", 1), ("approval_max_uses__lte", 100)),
                name="policy_approval_uses",
            ),
        ),
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in TABLES],
    ]
