"""Uses of verdicts that a client kept for a moment (the SDK's local mode), reported afterwards: recorded once a batch.

Runs on the verification's login, as verification itself records. Source: spec KEYS §7, API.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connections, transaction

from keys.callers import Presented
from keys.verification import DATABASE

LOCK_TIMEOUT: Final = "500ms"

_TAKE: Final = """
INSERT INTO keys_usagereport (verifier_id, batch, organization_id) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
# What is told later than after an hour counts as of then: what lies further back is rolled up and was shown already.
_RECORD: Final = """
WITH known AS MATERIALIZED (
    SELECT k.organization_id, g.key_id, g.version, greatest(least(g.at, now()), now() - interval '1 hour') AS at,
           g.calls, g.cost, g.endpoint, g.region, g.ip::inet AS ip, g.user_agent
      FROM unnest(%s::text[], %s::int[], %s::timestamptz[], %s::int[], %s::int[], %s::text[], %s::text[], %s::text[],
                  %s::text[]) AS g (key_id, version, at, calls, cost, endpoint, region, ip, user_agent)
      JOIN keys_apikey k ON k.id = g.key_id
      JOIN keys_keysecret s ON s.key_id = g.key_id AND s.version = g.version
     WHERE %s::text IS NULL OR k.organization_id = %s
), locked AS MATERIALIZED (
    SELECT key_id FROM keys_keyuse WHERE key_id IN (SELECT key_id FROM known WHERE cost > 0)
     ORDER BY key_id FOR NO KEY UPDATE
), used AS (
    UPDATE keys_keyuse u SET last_used_at = greatest(u.last_used_at, n.at),
           last_used_ip = CASE WHEN u.last_used_at >= n.at THEN u.last_used_ip ELSE n.ip END
      FROM locked, (SELECT DISTINCT ON (key_id) key_id, at, ip FROM known WHERE cost > 0 ORDER BY key_id, at DESC) n
     WHERE locked.key_id = u.key_id AND n.key_id = u.key_id
), secrets AS (
    UPDATE keys_secretuse u SET last_used_at = greatest(u.last_used_at, n.at)
      FROM locked, (SELECT key_id, version, max(at) AS at FROM known WHERE cost > 0 GROUP BY 1, 2) n
     WHERE locked.key_id = u.key_id AND n.key_id = u.key_id AND n.version = u.version
)
INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, region, ip, user_agent, request_id, cost,
                       calls, verifier_id)
SELECT at, organization_id, key_id, version, 'VALID', endpoint, region, ip, user_agent, %s, cost, calls, %s
  FROM known
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Like calls of one secret, `calls` of them since `at`, which cost `cost` in all; every field is bounded before."""

    key_id: str
    version: int
    at: datetime
    calls: int
    cost: int
    endpoint: str
    region: str
    ip: str | None
    user_agent: str


def record(batch: str, uses: Sequence[Used], *, verifier: Presented, request_id: str) -> int:
    """Record a batch, committed before this returns; return how many of its items are recorded.

    The same batch of the same verifier again is 0. Keys that there are not, or that are not the verifier's to see, are
    left out and not told apart. Counts against no limit and no quota: keys that have one are never kept.
    """
    key = verifier.key
    sees = None if verifier.is_operator else key.organization_id
    with transaction.atomic(using=DATABASE), connections[DATABASE].cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        cursor.execute(_TAKE, [key.id, batch, key.organization_id])
        if not cursor.rowcount:
            return 0
        cursor.execute(_RECORD, [*_columns(uses), sees, sees, request_id, key.id])
        return int(cursor.rowcount)


def _columns(uses: Sequence[Used]) -> list[list[object]]:
    return [
        [use.key_id for use in uses],
        [use.version for use in uses],
        [use.at for use in uses],
        [use.calls for use in uses],
        [use.cost for use in uses],
        [use.endpoint for use in uses],
        [use.region for use in uses],
        [use.ip for use in uses],
        [use.user_agent for use in uses],
    ]
