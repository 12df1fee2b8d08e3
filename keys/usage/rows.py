"""The rows that every count begins with: what is rolled up and what is not yet, in one snapshot."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from django.db import OperationalError, connections, transaction
from psycopg.errors import QueryCanceled

from keys.errors import TakesTooLong
from keys.models import Grain
from keys.usage.questions import Window

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
# The same calls, of which the roll-up knows the place alone.
OF_PLACES: Final = """
SELECT organization_id, at, project_id, environment_id, endpoint, region, code, calls, cost FROM keys_usageplace
 WHERE grain = %(grain)s AND at >= %(since)s AND at < %(until)s {narrow}
UNION ALL
SELECT organization_id, date_trunc(%(unit)s, at, 'UTC'), project_id, environment_id, endpoint, region, code, calls, cost
  FROM (SELECT c.*, coalesce(k.project_id, '') AS project_id, coalesce(k.environment_id, '') AS environment_id
          FROM keys_call c LEFT JOIN keys_apikey k ON k.id = c.key_id AND k.organization_id = c.organization_id) c
 WHERE xid >= (SELECT rolled_until FROM keys_usagemark) AND at >= %(since)s AND at < %(until)s {narrow}
"""
# The same calls by key, without their time: whole weeks, and the buckets before and after them.
OF_KEYS: Final = """
SELECT key_id, calls, refused, cost FROM keys_usagekey
 WHERE grain = 'w' AND at >= %(weeks_since)s AND at < %(weeks_until)s {narrow}
UNION ALL
SELECT key_id, calls, refused, cost FROM keys_usagekey
 WHERE grain = %(grain)s AND at >= %(since)s AND at < %(weeks_since)s {narrow}
UNION ALL
SELECT key_id, calls, refused, cost FROM keys_usagekey
 WHERE grain = %(grain)s AND at >= %(weeks_until)s AND at < %(until)s {narrow}
UNION ALL
SELECT key_id, calls, CASE code WHEN 'VALID' THEN 0 ELSE calls END, CASE code WHEN 'VALID' THEN cost ELSE 0 END
  FROM keys_call
 WHERE xid >= (SELECT rolled_until FROM keys_usagemark) AND at >= %(since)s AND at < %(until)s {narrow}
"""
UNITS: Final = {Grain.MINUTE: "minute", Grain.HOUR: "hour", Grain.DAY: "day"}
# A page that takes longer says so. Memory: what it takes to tell 100,000 keys apart without a detour over the disk.
PATIENCE: Final = "10s"
MEMORY: Final = "64MB"
_SETTINGS: Final = "SELECT set_config('statement_timeout', %s, true), set_config('work_mem', %s, true)"
_CURRENT: Final = "SELECT current_setting('statement_timeout'), current_setting('work_mem')"


def counted(columns: Mapping[str, Collection[str] | None]) -> tuple[str, dict[str, Any]]:
    """Return the SQL of the rows and its parameters, narrowed to some values of some columns; None narrows nothing.

    The caller adds the parameters `grain`, `unit`, `since`, `until`. Column names are the code's own, never input.
    """
    narrow, chosen = narrowed(columns)
    return COUNTED.format(narrow=narrow), chosen


def narrowed(columns: Mapping[str, Collection[str] | None]) -> tuple[str, dict[str, Any]]:
    """Return the SQL that narrows rows to some values of some columns, and its parameters."""
    chosen = {column: list(values) for column, values in columns.items() if values is not None}
    return " ".join(f"AND {column} = ANY(%({column})s)" for column in chosen), chosen


def bounds(found: Window) -> dict[str, Any]:
    """Return the parameters by which the rows know a window."""
    return {
        "grain": found.grain.value,
        "unit": UNITS[found.grain],
        "since": found.since,
        "until": found.until,
    }


def rows(sql: str, parameters: Mapping[str, Any], using: str = "default") -> Sequence[tuple[Any, ...]]:
    """Run one statement and return what it finds."""
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found


def many_rows(
    sql: str, parameters: Mapping[str, Any], *, patience: str | None = None
) -> Sequence[tuple[Any, ...]]:
    """Run one statement that may have much to count, with memory for it and for `patience` (`PATIENCE`) at most.

    Raises:
        TakesTooLong: it did not end by then. The transaction it ran in goes on.
    """
    try:
        with transaction.atomic(), _bounded(patience or PATIENCE):
            return rows(sql, parameters)
    except OperationalError as error:
        if isinstance(error.__cause__, QueryCanceled):
            raise TakesTooLong(field="from") from error
        raise


@contextmanager
def _bounded(patience: str) -> Iterator[None]:
    """Set what holds for this savepoint alone; where it fails, rolling back to the savepoint puts it back."""
    (before,) = rows(_CURRENT, {})
    _set(patience, MEMORY)
    yield
    _set(*before)


def _set(patience: str, memory: str) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute(_SETTINGS, [patience, memory])
