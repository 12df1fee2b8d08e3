"""A new epoch of a ledger, opened by an entry that carries the old one's last checkpoint."""

from pathlib import Path

from django.db import migrations

FOLDER = Path(__file__).parent
SQL = (FOLDER / "reopening.sql").read_text()
GROWS = "FUNCTION audit_head_grows()"
_LEDGER = (FOLDER / "ledger.sql").read_text()
_START = _LEDGER.index(f"CREATE {GROWS}")
REVERSE = (
    "DROP FUNCTION ledger_reopen(text, bytea, jsonb);\n"
    + _LEDGER[_START : _LEDGER.index("END $$;", _START)].replace("CREATE", "CREATE OR REPLACE", 1)
    + "END $$;\nDROP FUNCTION audit_left(audit_head);"
)


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_erasure")]
    operations = [migrations.RunSQL(SQL, REVERSE)]
