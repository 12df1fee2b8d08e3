"""Row-level security, the invariants of `guards.sql`, and the built-in scopes."""

from pathlib import Path

from django.db import migrations

from audit.rls import protect, verifier_reads
from keys import builtin

SQL = (Path(__file__).parent / "guards.sql").read_text()
TABLES = ("apikey", "keysecret", "rotation", "keyuse", "secretuse", "keypolicy", "idempotencyrecord", "term")
READ_BY_VERIFICATION = ("apikey", "keysecret", "keyuse", "secretuse")
REVERSE = """
DROP POLICY verify_writes ON keys_keysecret; DROP POLICY verify_writes ON keys_keyuse; DROP POLICY verify_writes ON keys_secretuse;
REVOKE ALL ON keys_scope, keys_keysecret, keys_keyuse, keys_secretuse FROM keystead_verify;
DROP TRIGGER keys_follow_secret ON keys_keysecret; DROP TRIGGER keys_follow ON keys_apikey;
DROP TRIGGER keys_secret_fixed ON keys_keysecret; DROP TRIGGER keys_key_fixed ON keys_apikey;
DROP FUNCTION keys_follow_secret(), keys_follow(), keys_terms_of(keys_apikey), keys_secret_fixed(), keys_key_fixed();
DROP TABLE keys_term;
ALTER TABLE keys_keysecret DROP CONSTRAINT secret_of_same, DROP CONSTRAINT secret_digest_length;
ALTER TABLE keys_rotation DROP CONSTRAINT rotation_of_same;
ALTER TABLE keys_apikey DROP CONSTRAINT key_project_of_same, DROP CONSTRAINT key_environment_of_same, DROP CONSTRAINT key_of_organization;
"""


def add_builtin_scopes(apps, schema_editor):
    """Fill the catalogue with the scopes of the product's own API."""
    scope = apps.get_model("keys", "Scope")
    scope.objects.bulk_create(
        scope(name=name, description=description, risk=risk, kinds=list(kinds), is_builtin=True)
        for name, description, risk, kinds in builtin.SCOPES
    )


class Migration(migrations.Migration):
    dependencies = [("keys", "0001_keys")]
    operations = [
        migrations.RunSQL(SQL, REVERSE),
        *[protect(f"keys_{table}") for table in TABLES],
        *[verifier_reads(f"keys_{table}") for table in READ_BY_VERIFICATION],
        migrations.RunPython(add_builtin_scopes, migrations.RunPython.noop),
    ]
