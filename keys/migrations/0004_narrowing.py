"""What can narrow a verdict is told as it commits, whoever changes it (`narrowing.sql`)."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).parent / "narrowing.sql").read_text()
WATCHED = (
    "keys_apikey",
    "keys_keysecret",
    "keys_scope",
    "keys_tier",
    "orgs_organization",
    "orgs_membership",
    "orgs_project",
    "orgs_environment",
    "orgs_plan",
    "orgs_user",
)
EVENTS = ("update", "delete", "truncate")
REVERSE = f"""
DROP TRIGGER keys_narrowed_insert ON keys_scope;
{"".join(f"DROP TRIGGER keys_narrowed_{event} ON {table};" for table in WATCHED for event in EVENTS)}
DROP TABLE keys_narrowing;
DROP FUNCTION keys_narrow(text[], text[]), keys_tell_narrowed(), keys_narrowed_keys(), keys_narrowed_secrets(),
    keys_narrowed_organizations(), keys_narrowed_memberships(), keys_narrowed_projects(), keys_narrowed_environments(),
    keys_narrowed_people(), keys_narrowed_plans(), keys_narrowed_tiers(), keys_narrowed_scopes(),
    keys_narrowed_everything(), keys_narrowed_truncated(), keys_narrowed_leavers();
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0003_usage"), ("orgs", "0002_guards")]
    operations = [migrations.RunSQL(SQL, REVERSE)]
