"""The rows that every count begins with: what is rolled up and what is not yet, in one snapshot."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from django.db import connections

from keys.models import Grain

# A call is in the one half or the other: the roll-up moves its rows and the mark in one transaction. The mark is an
# xid8, whose operators are leakproof, so that its index serves under row-level security too.
COUNTED: Final = """
SELECT organization_id, at, key_id, endpoint, region, code, calls, cost, at AS last_at FROM keys_usage
 WHERE grain = %(grain)s AND at >= %(since)s AND at < %(until)s {narrow}
UNION ALL
SELECT organization_id, date_trunc(%(unit)s, at, 'UTC'), key_id, endpoint, region, code, calls, cost, at
  FROM keys_call
 WHERE xid >= (SELECT rolled_until FROM keys_usagemark) AND at >= %(since)s AND at < %(until)s {narrow}
"""
UNITS: Final = {Grain.MINUTE: "minute", Grain.HOUR: "hour", Grain.DAY: "day"}


def counted(columns: Mapping[str, Collection[str] | None]) -> tuple[str, dict[str, Any]]:
    """Return the SQL of the rows and its parameters, narrowed to some values of some columns; None narrows nothing.

    The caller adds the parameters `grain`, `unit`, `since`, `until`. Column names are the code's own, never input.
    """
    chosen = {column: list(values) for column, values in columns.items() if values is not None}
    narrow = " ".join(f"AND {column} = ANY(%({column})s)" for column in chosen)
    return COUNTED.format(narrow=narrow), chosen


def rows(sql: str, parameters: Mapping[str, Any], using: str = "default") -> Sequence[tuple[Any, ...]]:
    """Run one statement and return what it finds."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found
