"""The SQL that migrations use to put a table under row-level security."""

from django.db.migrations import RunSQL

CURRENT = "current_setting('app.organization', true)"


def protect(table: str, column: str = "organization_id") -> RunSQL:
    """Return the migration step that gives `table` the tenant policies of spec PEOPLE, for readers and writers alike.

    FORCE binds the owner too, who therefore has a policy of its own.
    """
    return RunSQL(
        f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table} TO keystead_app USING ({column} = {CURRENT}) WITH CHECK ({column} = {CURRENT});
        CREATE POLICY everywhere ON {table} TO keystead_app USING ({CURRENT} = '*') WITH CHECK ({CURRENT} = '*');
        CREATE POLICY owner ON {table} TO keystead_owner USING (true) WITH CHECK (true);
        """,
        f"""
        DROP POLICY tenant ON {table};
        DROP POLICY everywhere ON {table};
        DROP POLICY owner ON {table};
        ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;
        """,
    )


def verifier_reads(table: str) -> RunSQL:
    """Return the step that lets the verification login read every row of `table`, and no more."""
    return RunSQL(
        f"CREATE POLICY verify ON {table} FOR SELECT TO keystead_verify USING (true);"
        f"GRANT SELECT ON {table} TO keystead_verify;",
        f"REVOKE SELECT ON {table} FROM keystead_verify; DROP POLICY verify ON {table};",
    )
