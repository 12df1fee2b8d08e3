"""The search's blocks of words, its functions and their rights, as one piece of SQL beside this file."""

from pathlib import Path

from django.db import migrations

SQL = (Path(__file__).parent / "search.sql").read_text()
REVERSE = """
DROP FUNCTION audit_search(text[], boolean, text, text[], text, text, boolean, timestamptz, timestamptz, integer, bigint,
    integer, bigint, boolean, integer), audit_look_in_blocks(audit_query, integer, bigint, bigint, boolean, integer, integer),
    audit_look(audit_query, text, integer, bigint, integer, bigint, boolean, integer, integer),
    audit_matches(audit_query, audit_entry, boolean), audit_search_forget(text, smallint, bigint[]), audit_search_behind(),
    audit_search_lag(),
    audit_search_write(integer), audit_whole_blocks(text, integer, bigint), audit_search_lock(text), audit_block(text, smallint, bigint), audit_text(audit_entry),
    audit_terms(text);
DROP TYPE audit_query;
DROP TABLE audit_searchblock;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_notary")]
    operations = [migrations.RunSQL(SQL, REVERSE)]
