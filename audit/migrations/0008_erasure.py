"""Erasing sealed personal data: the openings go, the entries and the roots stay."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).parent / "erasure.sql").read_text()
REVERSE = """
DROP TRIGGER audit_sealed_keep ON audit_sealed;
CREATE TRIGGER audit_sealed_keep BEFORE UPDATE OR DELETE ON audit_sealed FOR EACH ROW EXECUTE FUNCTION audit_refuse();
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep;
DROP FUNCTION ledger_erase(text, smallint, bigint);
DROP FUNCTION audit_sealed_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_support")]
    operations = [migrations.RunSQL(SQL, REVERSE)]
