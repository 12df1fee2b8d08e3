"""Row-level security, what SQL alone can state, and the operator's organization."""

import secrets

from django.db import migrations

from audit.rls import protect, verifier_reads
from orgs.ids import ALPHABET, LENGTH

SAME_ORGANIZATION = """
ALTER TABLE orgs_project ADD CONSTRAINT project_of_organization UNIQUE (id, organization_id);
ALTER TABLE orgs_environment ADD CONSTRAINT environment_of_organization UNIQUE (id, organization_id);
ALTER TABLE orgs_project ADD CONSTRAINT project_parent_of_same FOREIGN KEY (parent_id, organization_id)
    REFERENCES orgs_project (id, organization_id);
ALTER TABLE orgs_membership ADD CONSTRAINT membership_project_of_same FOREIGN KEY (project_id, organization_id)
    REFERENCES orgs_project (id, organization_id);
ALTER TABLE orgs_invitation ADD CONSTRAINT invitation_project_of_same FOREIGN KEY (project_id, organization_id)
    REFERENCES orgs_project (id, organization_id);
"""

# A key's mode and the way to a project are fixed for ever; an organization stays the operator's or a customer's.
FIXED = """
CREATE FUNCTION orgs_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'orgs_environment' THEN
        IF (NEW.id, NEW.organization_id, NEW.mode, NEW.slug) IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.mode, OLD.slug) THEN
            RAISE EXCEPTION 'an environment keeps its slug and mode' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF TG_TABLE_NAME = 'orgs_project' THEN
        IF (NEW.id, NEW.organization_id, NEW.parent_id, NEW.path) IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.parent_id, OLD.path) THEN
            RAISE EXCEPTION 'a project keeps its place' USING ERRCODE = 'check_violation';
        END IF;
    ELSIF (NEW.id, NEW.is_operator) IS DISTINCT FROM (OLD.id, OLD.is_operator) THEN
        RAISE EXCEPTION 'an organization stays what it is' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orgs_fixed BEFORE UPDATE ON orgs_environment FOR EACH ROW EXECUTE FUNCTION orgs_fixed();
CREATE TRIGGER orgs_fixed BEFORE UPDATE ON orgs_project FOR EACH ROW EXECUTE FUNCTION orgs_fixed();
CREATE TRIGGER orgs_fixed BEFORE UPDATE ON orgs_organization FOR EACH ROW EXECUTE FUNCTION orgs_fixed();
REVOKE DELETE ON orgs_organization, orgs_project, orgs_environment, orgs_user FROM keystead_app;
"""

COUNTERS = """
CREATE TABLE orgs_counter (cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires timestamptz NOT NULL);
CREATE INDEX orgs_counter_expires ON orgs_counter (expires);
"""


def _id(prefix):
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def make_operator(apps, schema_editor):
    """Make the one organization that runs the portal, with a root project and a production environment."""
    if apps.get_model("orgs", "Organization").objects.filter(is_operator=True).exists():
        return
    plan, _ = apps.get_model("orgs", "Plan").objects.get_or_create(
        slug="standard", defaults={"name": "Standard"}
    )
    operator = apps.get_model("orgs", "Organization").objects.create(
        id=_id("org"), slug="operator", name="Operator", is_operator=True, plan=plan
    )
    root = _id("prj")
    apps.get_model("orgs", "Project").objects.create(
        id=root, organization=operator, name="Operator", path=f"/{root}/", label_path="Operator"
    )
    apps.get_model("orgs", "Environment").objects.create(
        id=_id("env"),
        organization=operator,
        slug="production",
        name="Production",
        mode="live",
        is_production=True,
    )


class Migration(migrations.Migration):
    dependencies = [("orgs", "0001_tenancy")]
    operations = [
        migrations.RunSQL(
            SAME_ORGANIZATION,
            "ALTER TABLE orgs_invitation DROP CONSTRAINT invitation_project_of_same;"
            "ALTER TABLE orgs_membership DROP CONSTRAINT membership_project_of_same;"
            "ALTER TABLE orgs_project DROP CONSTRAINT project_parent_of_same;"
            "ALTER TABLE orgs_environment DROP CONSTRAINT environment_of_organization;"
            "ALTER TABLE orgs_project DROP CONSTRAINT project_of_organization;",
        ),
        migrations.RunSQL(
            FIXED,
            "DROP TRIGGER orgs_fixed ON orgs_environment; DROP TRIGGER orgs_fixed ON orgs_project;"
            "DROP TRIGGER orgs_fixed ON orgs_organization; DROP FUNCTION orgs_fixed();"
            "GRANT DELETE ON orgs_organization, orgs_project, orgs_environment, orgs_user TO keystead_app;",
        ),
        migrations.RunSQL(COUNTERS, "DROP TABLE orgs_counter;"),
        protect("orgs_organization", "id"),
        *[protect(f"orgs_{table}") for table in ("project", "environment", "membership", "invitation")],
        *[
            verifier_reads(f"orgs_{table}")
            for table in ("organization", "project", "environment", "membership")
        ],
        migrations.RunSQL(
            "GRANT SELECT ON orgs_plan TO keystead_verify; GRANT SELECT (id, name, is_active) ON orgs_user TO keystead_verify;",
            "REVOKE SELECT ON orgs_plan, orgs_user FROM keystead_verify;",
        ),
        migrations.RunPython(make_operator, migrations.RunPython.noop),
    ]
