"""Where calls are recorded and counted: partitions, roll-ups, quotas. In SQL, because Django knows no partitions."""

from pathlib import Path

from django.db import migrations

from audit.rls import protect

SQL = (Path(__file__).parent / "usage.sql").read_text()
WRITTEN = ("organizationspend", "unknowncalls", "call", "scopeuse", "usagereport")
TABLES = (
    "call",
    "usage",
    "usageplace",
    "usagekey",
    "usageendpoint",
    "unknowncalls",
    "scopeuse",
    "usagereport",
    "organizationspend",
)
REVERSE = """
DROP FUNCTION usage_new_table(text), usage_partition(date), usage_days(), usage_add_partitions(integer), usage_set_aside(),
    usage_move_left(integer), usage_roll_up(integer), usage_admit_endpoints(xid8, xid8), usage_add_up(xid8, xid8),
    usage_renumber(xid8), usage_kept(), usage_past_days(), usage_retain_calls(date), usage_retain();
DROP TABLE IF EXISTS keys_call_left;
DROP TABLE keys_usagereport, keys_scopeuse, keys_unknowncalls, keys_usagemark, keys_usageendpoint, keys_usagekey,
    keys_usageplace, keys_usage, keys_call;
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
        migrations.RunSQL("SELECT usage_add_partitions(14)", migrations.RunSQL.noop),
    ]
