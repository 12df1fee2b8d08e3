"""Where calls are recorded and counted: partitions, roll-ups, quotas. In SQL, because Django knows no partitions."""

from pathlib import Path

from django.db import migrations

from orgs.rls import protect

SQL = (Path(__file__).parent / "usage.sql").read_text()
WRITTEN = ("organizationspend", "unknowncalls", "call", "scopeuse", "usagereport")
TABLES = ("call", "usage", "unknowncalls", "scopeuse", "usagereport", "organizationspend")
REVERSE = """
DROP TABLE keys_usagereport, keys_scopeuse, keys_unknowncalls, keys_usagemark, keys_usage, keys_call;
REVOKE ALL ON keys_tier, keys_organizationspend FROM keystead_verify;
"""


def verifier_writes(table):
    """Let the verification login write every organization's rows, as far as its grants go."""
    return migrations.RunSQL(
        f"CREATE POLICY verify ON {table} TO keystead_verify USING (true) WITH CHECK (true);",
        f"DROP POLICY verify ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("keys", "0002_guards")]
    operations = [
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in TABLES],
        *[verifier_writes(f"keys_{table}") for table in WRITTEN],
    ]
