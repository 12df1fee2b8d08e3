"""Counting and recording a group of calls: counters locked in order of id, the calls admitted in their order, and all
of it written in the same transaction, committed before anybody is answered. Spec KEYS §7.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from msgspec import Struct

from keys.limits import Meter, Spend, Window
from keys.verification import arrays
from keys.verification.channel import BEGIN, COMMIT, Channel, Query, statement
from keys.verification.records import Known

LOCK: Final = statement(
    "lock",
    """
WITH k AS MATERIALIZED (
    SELECT key_id, window_seconds, window_start, current, previous, period, spent
      FROM keys_keyuse WHERE key_id = ANY (%s) ORDER BY key_id FOR NO KEY UPDATE
), o AS MATERIALIZED (
    SELECT organization_id, period, spent
      FROM keys_organizationspend WHERE organization_id = ANY (%s) ORDER BY organization_id FOR NO KEY UPDATE
)
SELECT key_id, window_seconds, window_start, current, previous, period, spent, clock_timestamp() FROM k
UNION ALL
SELECT organization_id, NULL, NULL, NULL, NULL, period, spent, clock_timestamp() FROM o
""",
)
# The first call of an organization with a quota. A row that appears between this and the lock is as good.
OPEN: Final = statement(
    "open",
    """
INSERT INTO keys_organizationspend (organization_id) SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING
""",
)
# After the counters of keys and organizations, always.
LOCK_APPROVALS: Final = statement(
    "lock approvals",
    """
SELECT approval_id, spent FROM keys_approvalspend WHERE approval_id = ANY (%s) ORDER BY approval_id FOR NO KEY UPDATE
""",
)
# One statement: keys in order of id, so that two groups never wait for each other. What is NULL stays as it is.
RECORD: Final = statement(
    "record",
    """
WITH locked AS MATERIALIZED (
    SELECT key_id FROM keys_keyuse WHERE key_id = ANY (%s) ORDER BY key_id FOR NO KEY UPDATE
), used AS (
    UPDATE keys_keyuse k
       SET last_used_at = greatest(k.last_used_at, u.at),
           last_used_ip = CASE WHEN u.at IS NULL THEN k.last_used_ip ELSE u.ip::inet END,
           window_seconds = coalesce(u.seconds, k.window_seconds), window_start = coalesce(u.start, k.window_start),
           current = coalesce(u.current, k.current), previous = coalesce(u.previous, k.previous),
           period = coalesce(u.period, k.period), spent = coalesce(u.spent, k.spent)
      FROM unnest(%s::text[], %s::timestamptz[], %s::text[], %s::int[], %s::bigint[], %s::bigint[],
                          %s::bigint[], %s::int[], %s::bigint[])
        AS u (key_id, at, ip, seconds, start, current, previous, period, spent)
     WHERE (SELECT count(*) FROM locked) > 0 AND k.key_id = u.key_id
), secrets AS (
    UPDATE keys_secretuse s SET last_used_at = greatest(s.last_used_at, v.at)
      FROM unnest(%s::text[], %s::int[], %s::timestamptz[]) AS v (key_id, version, at)
     WHERE (SELECT count(*) FROM locked) > 0 AND s.key_id = v.key_id AND s.version = v.version
)
INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, region, ip, user_agent, request_id, cost,
                       trace, verifier_id, incident)
SELECT c.at, c.organization_id, c.key_id, c.version, c.code, c.endpoint, c.region, c.ip::inet, c.user_agent,
       c.request_id, c.cost, c.trace::jsonb, c.verifier_id, coalesce(c.trace::jsonb ->> 'incident', '')
  FROM unnest(%s::timestamptz[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %s::text[],
              %s::text[], %s::text[], %s::int[], %s::text[], %s::text[])
    AS c (at, organization_id, key_id, version, code, endpoint, region, ip, user_agent, request_id, cost, trace,
          verifier_id)
""",
)
SPEND: Final = statement(
    "spend",
    """
UPDATE keys_organizationspend o SET period = u.period, spent = u.spent
  FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS u (organization_id, period, spent)
 WHERE o.organization_id = u.organization_id
""",
)
USE: Final = statement(
    "use",
    """
WITH u AS (
    SELECT * FROM unnest(%s::text[], %s::int[], %s::text[], %s::text[], %s::timestamptz[], %s::text[], %s::text[],
                         %s::text[])
        AS u (approval_id, number, organization_id, key_id, at, ip, request_id, verifier_id)
), spent AS (
    UPDATE keys_approvalspend s SET spent = n.number
      FROM (SELECT approval_id, max(number) AS number FROM u GROUP BY approval_id) n WHERE s.approval_id = n.approval_id
)
INSERT INTO keys_approvaluse (approval_id, number, organization_id, key_id, at, ip, request_id, verifier_id)
SELECT approval_id, number, organization_id, key_id, at, ip::inet, request_id, verifier_id FROM u
""",
)
SCOPES: Final = statement(
    "scopes",
    """
INSERT INTO keys_scopeuse AS s (key_id, scope, organization_id, last_used_on)
SELECT key_id, scope, organization_id, day::date
  FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS u (key_id, scope, organization_id, day) ORDER BY 1, 2
ON CONFLICT (key_id, scope) DO UPDATE SET last_used_on = excluded.last_used_on
 WHERE s.last_used_on < excluded.last_used_on
""",
)
# Who changes the secret meanwhile is not waited for: the next use moves the digest.
RENEW: Final = statement(
    "renew",
    """
WITH free AS MATERIALIZED (
    SELECT s.key_id, s.version, r.digest, r.pepper
      FROM unnest(%s::text[], %s::int[], %s::bytea[], %s::bytea[], %s::int[])
        AS r (key_id, version, old, digest, pepper)
      JOIN keys_keysecret s ON s.key_id = r.key_id AND s.version = r.version AND s.digest = r.old
     ORDER BY s.key_id, s.version FOR UPDATE OF s SKIP LOCKED
)
UPDATE keys_keysecret s SET digest = free.digest, pepper_version = free.pepper
  FROM free WHERE s.key_id = free.key_id AND s.version = free.version
""",
)


class Recorded(Struct, frozen=True, kw_only=True):
    """One answered call of a known key, as it is kept."""

    at: datetime
    known: Known
    code: str
    endpoint: str
    region: str
    ip: str | None
    user_agent: str
    request_id: str
    cost: int
    trace: Mapping[str, str]
    verifier_id: str


class Used(Struct, frozen=True, kw_only=True):
    """One use of an approval, the `number`th."""

    approval_id: str
    number: int
    organization_id: str
    key_id: str
    at: datetime
    ip: str | None
    request_id: str
    verifier_id: str


@dataclass(slots=True)
class Evidence:
    """What a group of calls leaves behind, gathered before it is written."""

    calls: list[Recorded] = field(default_factory=list)
    # Key to when and from where, and (key, version) to when: the latest of the group.
    keys: dict[str, tuple[datetime, str | None]] = field(default_factory=dict)
    secrets: dict[tuple[str, int], datetime] = field(default_factory=dict)
    # (key, scope) to its organization and the day.
    scopes: dict[tuple[str, str], tuple[str, date]] = field(default_factory=dict)
    # (key, version) to the old digest, the new one, and its pepper's version.
    digests: dict[tuple[str, int], tuple[bytes, bytes, int]] = field(default_factory=dict)
    uses: list[Used] = field(default_factory=list)

    def use(self, known: Known, ip: str | None) -> None:
        """Note that a secret was used."""
        row = known.row
        self.keys[row.key_id] = (row.now, ip or None)
        self.secrets[row.key_id, row.version] = row.now

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.calls or self.keys or self.digests or self.scopes or self.uses)


async def lock(
    channel: Channel, keys: Sequence[str], organizations: Sequence[str], approvals: Sequence[str] = ()
) -> Meter:
    """Begin a transaction, lock the counters of a group in it and return them as they are now."""
    locking = (LOCK, [arrays.texts(keys), arrays.texts(organizations)])
    _, rows = await channel.run((BEGIN, []), locking)
    if len(rows) < len(keys) + len(organizations):
        _, rows = await channel.run((OPEN, [arrays.texts(organizations)]), locking)
    meter = Meter(max(int(row[7].timestamp() * 1000) for row in rows))
    for id_, seconds, start, current, previous, period, spent, _ in rows:
        if seconds is None:
            meter.organizations[id_] = Spend(period, spent)
        else:
            meter.windows[id_] = Window(seconds, start, current, previous)
            meter.tiers[id_] = Spend(period, spent)
    if approvals:
        (found,) = await channel.run((LOCK_APPROVALS, [arrays.texts(approvals)]))
        meter.approvals.update(found)
    return meter


async def write(channel: Channel, evidence: Evidence, meter: Meter | None) -> None:
    """Write what a group leaves behind, and the counters that it has moved; commit what `lock` began."""
    queries: list[Query] = [(RECORD, _record(evidence, meter))]
    if evidence.scopes:
        queries.append((SCOPES, _scopes(evidence)))
    if meter is not None and meter.moved_organizations:
        queries.append((SPEND, _spends(meter)))
    if evidence.uses:
        queries.append((USE, _uses(evidence.uses)))
    if evidence.digests:
        queries.append((RENEW, _digests(evidence)))
    if meter is not None:
        queries.append((COMMIT, []))
    await channel.run(*queries)


def _record(evidence: Evidence, meter: Meter | None) -> list[arrays.Column]:
    """Return the columns of `RECORD`: of keys, of secrets, of calls."""
    touched = sorted({*evidence.keys, *meter.moved_keys} if meter is not None else evidence.keys)
    uses = [evidence.keys.get(key_id, _UNUSED) for key_id in touched]
    ids = arrays.texts(touched)
    secrets, calls = evidence.secrets, evidence.calls
    rows = [call.known.row for call in calls]
    return [
        ids,
        ids,
        arrays.times([at for at, _ in uses]),
        arrays.texts([ip for _, ip in uses]),
        *_counters(touched, meter),
        arrays.texts([key_id for key_id, _ in secrets]),
        arrays.ints([version for _, version in secrets]),
        arrays.times(list(secrets.values())),
        arrays.times([call.at for call in calls]),
        arrays.texts([row.organization_id for row in rows]),
        arrays.texts([row.key_id for row in rows]),
        arrays.ints([row.version for row in rows]),
        arrays.texts([call.code for call in calls]),
        arrays.texts([call.endpoint for call in calls]),
        arrays.texts([call.region for call in calls]),
        arrays.texts([call.ip for call in calls]),
        arrays.texts([call.user_agent for call in calls]),
        arrays.texts([call.request_id for call in calls]),
        arrays.ints([call.cost for call in calls]),
        arrays.texts([json.dumps(call.trace) if call.trace else None for call in calls]),
        arrays.texts([call.verifier_id for call in calls]),
    ]


_UNUSED: Final = (None, None)


def _counters(touched: Sequence[str], meter: Meter | None) -> list[arrays.Column]:
    """Return the counters of each key that was touched, NULL where they have not moved."""
    nothing: list[None] = [None] * len(touched)
    if meter is None or not meter.moved_keys:
        small, large = arrays.ints(nothing), arrays.big_ints(nothing)
        return [small, large, large, large, small, large]
    moved = meter.moved_keys
    windows = [meter.windows[id_] if id_ in moved else None for id_ in touched]
    spends = [meter.tiers[id_] if id_ in moved else None for id_ in touched]
    return [
        arrays.ints([window.seconds if window else None for window in windows]),
        arrays.big_ints([window.start if window else None for window in windows]),
        arrays.big_ints([window.current if window else None for window in windows]),
        arrays.big_ints([window.previous if window else None for window in windows]),
        arrays.ints([spend.period if spend else None for spend in spends]),
        arrays.big_ints([spend.spent if spend else None for spend in spends]),
    ]


def _spends(meter: Meter) -> list[arrays.Column]:
    moved = sorted(meter.moved_organizations)
    spends = [meter.organizations[id_] for id_ in moved]
    return [
        arrays.texts(moved),
        arrays.ints([spend.period for spend in spends]),
        arrays.big_ints([spend.spent for spend in spends]),
    ]


def _uses(uses: Sequence[Used]) -> list[arrays.Column]:
    return [
        arrays.texts([use.approval_id for use in uses]),
        arrays.ints([use.number for use in uses]),
        arrays.texts([use.organization_id for use in uses]),
        arrays.texts([use.key_id for use in uses]),
        arrays.times([use.at for use in uses]),
        arrays.texts([use.ip for use in uses]),
        arrays.texts([use.request_id for use in uses]),
        arrays.texts([use.verifier_id for use in uses]),
    ]


def _scopes(evidence: Evidence) -> list[arrays.Column]:
    return [
        arrays.texts([key_id for key_id, _ in evidence.scopes]),
        arrays.texts([scope for _, scope in evidence.scopes]),
        arrays.texts([organization_id for organization_id, _ in evidence.scopes.values()]),
        arrays.texts([day.isoformat() for _, day in evidence.scopes.values()]),
    ]


def _digests(evidence: Evidence) -> list[arrays.Column]:
    renewed = evidence.digests.values()
    return [
        arrays.texts([key_id for key_id, _ in evidence.digests]),
        arrays.ints([version for _, version in evidence.digests]),
        arrays.blobs([old for old, _, _ in renewed]),
        arrays.blobs([new for _, new, _ in renewed]),
        arrays.ints([pepper for _, _, pepper in renewed]),
    ]
