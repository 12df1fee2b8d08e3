"""What the database knows of presented secrets, read in one statement for a whole group. Nothing read here is kept.

What is kept is work on it: the row is read anew for every call, and where it is the very row of before, what was
made of it is used again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from msgspec import Struct

from keys import limits, verdict
from keys.governance import Approval, Decision
from keys.policy.limits import Source, effective_limit
from keys.scopes import Layers, Risks
from keys.secret import Mode
from keys.verification import arrays
from keys.verification.channel import Channel, Query, statement
from orgs.roles import Risk, Role, ceiling, highest
from orgs.terms import RateLimit, Terms, effective

_CATALOGUE: Final = "SELECT string_agg(name || ' ' || risk, E'\\n' ORDER BY name) FROM keys_scope"
CATALOGUE: Final = statement("catalogue", _CATALOGUE)
# By position, because the rows are read by the columns' order alone. What keys of one place share comes as one text,
# which is read once for all that are alike. A project's path holds the ids from the root.
RECORDS: Final = statement(
    "records",
    """
SELECT d.n, s.version, s.expires_at, s.accepted_until, s.pepper_version,
       k.id, k.name, k.kind, k.organization_id, k.scopes, k.allowed_ips, k.tags::text, k.newest_version,
       k.is_disabled, k.disabled_until, k.revoked_at, k.owner_type, k.owner_user_id, k.owner_team, u.name,
       k.rate_limit_requests, k.rate_limit_window_seconds, t.requests, t.window_seconds, t.monthly_quota,
       o.suspended_at,
       json_build_array(
           o.slug, o.name, o.is_operator, o.overrides, pl.slug, pl.name, pl.rate_limit_requests,
           pl.rate_limit_window_seconds, pl.monthly_quota, pl.entitlements, e.slug, e.mode, p.id, p.path,
           (SELECT jsonb_agg(a.scopes) FROM orgs_project a
             WHERE a.id = ANY (string_to_array(trim('/' FROM p.path), '/')) AND a.scopes IS NOT NULL))::text,
       CASE WHEN k.owner_user_id IS NOT NULL THEN
           (SELECT array_agg(m.role) FROM orgs_membership m
             WHERE m.organization_id = k.organization_id AND m.user_id = k.owner_user_id
               AND (m.project_id IS NULL OR m.project_id = ANY (string_to_array(trim('/' FROM p.path), '/')))) END,
       use.last_used_at, k.approval_bound, clock_timestamp(), CASE WHEN d.n = 1 THEN (CATALOGUE) END
  FROM unnest(%s) WITH ORDINALITY AS d (digest, n)
  JOIN keys_keysecret s ON s.digest = d.digest
  JOIN keys_apikey k ON k.id = s.key_id
  JOIN keys_keyuse use ON use.key_id = k.id
  JOIN orgs_organization o ON o.id = k.organization_id
  JOIN orgs_plan pl ON pl.slug = o.plan_id
  JOIN orgs_environment e ON e.id = k.environment_id
  JOIN orgs_project p ON p.id = k.project_id
  LEFT JOIN orgs_user u ON u.id = k.owner_user_id
  LEFT JOIN keys_tier t ON t.slug = k.tier_id
""".replace("CATALOGUE", _CATALOGUE),
)
PROJECTS: Final = statement(
    "projects",
    """
SELECT p.id, p.organization_id, p.path,
       (SELECT jsonb_agg(a.scopes)::text FROM orgs_project a
         WHERE a.id = ANY (string_to_array(trim('/' FROM p.path), '/')) AND a.scopes IS NOT NULL)
  FROM orgs_project p WHERE p.id = ANY (%s)
""",
)
APPROVAL_ID: Final = re.compile(r"apr_[a-z2-7]{20}")
# Asked only where a bound key is among those presented.
APPROVALS: Final = statement(
    "approvals",
    """
SELECT a.id, a.key_id, a.scope, a.resource, a.parameters_digest, a.decision, a.valid_until, a.uses, s.spent
  FROM keys_approval a JOIN keys_approvalspend s ON s.approval_id = a.id WHERE a.id = ANY (%s)
""",
)


class Row(NamedTuple):
    """One secret with its key and all that narrows it, in the order of `RECORDS`."""

    number: int
    version: int
    expires_at: datetime | None
    accepted_until: datetime | None
    pepper_version: int
    key_id: str
    name: str
    kind: str
    organization_id: str
    scopes: list[str]
    allowed_ips: list[str]
    tags: str
    newest_version: int
    is_disabled: bool
    disabled_until: datetime | None
    revoked_at: datetime | None
    owner_type: str
    owner_user_id: str | None
    owner_team: str
    owner_name: str | None
    own_requests: int | None
    own_window: int | None
    tier_requests: int | None
    tier_window: int | None
    tier_quota: int | None
    suspended_at: datetime | None
    place: str
    roles: list[str] | None
    last_used_at: datetime | None
    is_bound: bool
    now: datetime
    # Of the first digest's row alone, to be sent once.
    catalogue: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a key is: what it shares with the other keys of its organization, environment and project."""

    organization_slug: str
    organization_name: str
    is_operator: bool
    plan_slug: str
    plan_name: str
    terms: Terms
    environment: str
    mode: Mode
    project_id: str
    path: str
    layers: Layers


class Known(Struct, frozen=True):
    """A row and what the rules need of it: its place, the record, and its bounds."""

    row: Row
    place: Place
    record: verdict.Record
    bounds: limits.Bounds

    @property
    def ends_at(self) -> datetime | None:
        """When the secret ends by itself: at its expiry, or where a newer one has taken its place."""
        ends = (self.row.expires_at, self.row.accepted_until)
        return min((time for time in ends if time is not None), default=None)


@dataclass(frozen=True, slots=True)
class RequestedProject:
    """A project that a verifier named: the ids from the root down to it, and what they allow."""

    organization_id: str
    path: tuple[str, ...]
    layers: tuple[Any, ...]


NO_APPROVALS: Final[Mapping[str, Approval]] = MappingProxyType({})


class Truth(NamedTuple):
    """What one group's reading found: secrets by digest; the projects asked for, and the approvals named, by id."""

    rows: Mapping[bytes, Known]
    projects: Mapping[str, RequestedProject]
    approvals: Mapping[str, Approval] = NO_APPROVALS


async def read(channel: Channel, digests: Sequence[bytes], projects: Sequence[str]) -> Truth:
    """Read all that a group of calls needs; each statement sees what is committed when it begins.

    Args:
        digests: of the presented secrets and of the verifiers' own.
        projects: ids that verifiers named, unknown ones among them perhaps.
    """
    queries: list[Query] = [(RECORDS, [arrays.blobs(digests)])]
    if projects:
        queries.append((PROJECTS, [arrays.texts(projects)]))
    found, *named = await channel.run(*queries)
    rows = [Row._make(values) for values in found]
    catalogue = next((row.catalogue for row in rows if row.number == 1), None)
    if rows and catalogue is None:
        ((catalogue,),) = (await channel.run((CATALOGUE, [])))[0]
    risks = _risks(catalogue or "")
    return Truth(
        {digests[row.number - 1]: _known(row, risks) for row in rows},
        {values[0]: _requested(*values[1:]) for values in (named[0] if named else [])},
    )


async def read_approvals(channel: Channel, approvals: Sequence[str]) -> Mapping[str, Approval]:
    """Read approvals by id, with how often each was used so far."""
    (found,) = await channel.run((APPROVALS, [arrays.texts(approvals)]))
    return {
        id_: Approval(
            id=id_,
            key_id=key_id,
            scope=scope,
            resource=resource,
            parameters_digest=digest,
            decision=Decision(decision),
            valid_until=until,
            uses=uses,
            spent=spent,
        )
        for id_, key_id, scope, resource, digest, decision, until, uses, spent in found
    }


def _known(row: Row, risks: Risks) -> Known:
    place = _place(row.place)
    terms = place.terms
    own = _limit(row.own_requests, row.own_window)
    rate_limit, source = effective_limit(own, _limit(row.tier_requests, row.tier_window), terms.rate_limit)
    record = verdict.Record(
        organization_id=row.organization_id,
        is_organization_suspended=row.suspended_at is not None,
        revoked_at=row.revoked_at,
        is_disabled=row.is_disabled,
        disabled_until=row.disabled_until,
        version=row.version,
        newest_version=row.newest_version,
        expires_at=row.expires_at,
        accepted_until=row.accepted_until,
        environment=place.environment,
        mode=place.mode,
        project_id=place.project_id,
        networks=row.allowed_ips,
        scopes=row.scopes,
        layers=place.layers,
        risks=risks,
        ceiling=_ceiling(tuple(row.roles or ())) if row.owner_user_id is not None else None,
        entitlements=terms.entitlements,
        is_bound=row.is_bound,
    )
    bounds = limits.NO_BOUNDS
    if rate_limit is not None or row.tier_quota is not None or terms.monthly_quota is not None:
        bounds = limits.Bounds(
            rate_limit=rate_limit,
            tier_quota=row.tier_quota if source is Source.TIER else None,
            organization_quota=terms.monthly_quota,
        )
    return Known(row, place, record, bounds)


def _limit(requests: int | None, window: int | None) -> RateLimit | None:
    return None if requests is None or window is None else RateLimit(requests, window)


@lru_cache(maxsize=1024)
def _place(text: str) -> Place:
    """Read what `RECORDS` says of a key's place: a pure reading of the text, so that the very same text has one."""
    slug, name, is_operator, overrides, plan, plan_name, requests, window, quota, entitlements, *where = (
        json.loads(text)
    )
    environment, mode, project_id, path, layers = where
    terms = Terms(rate_limit=_limit(requests, window), monthly_quota=quota, entitlements=entitlements)
    return Place(
        organization_slug=slug,
        organization_name=name,
        is_operator=is_operator,
        plan_slug=plan,
        plan_name=plan_name,
        terms=effective(terms, overrides),
        environment=environment,
        mode=Mode(mode),
        project_id=project_id,
        path=path,
        layers=tuple(map(tuple, layers or ())),
    )


@lru_cache(maxsize=1024)
def _layers(text: str | None) -> tuple[tuple[str, ...], ...]:
    return () if text is None else tuple(map(tuple, json.loads(text)))


@lru_cache(maxsize=256)
def _ceiling(roles: tuple[str, ...]) -> frozenset[Risk]:
    return ceiling(highest(Role(role) for role in roles))


@lru_cache(maxsize=4)
def _risks(text: str) -> dict[str, Risk]:
    return {name: Risk(risk) for name, risk in (line.split(" ") for line in text.splitlines())}


def _requested(organization_id: str, path: str, layers: str | None) -> RequestedProject:
    return RequestedProject(organization_id, tuple(path.strip("/").split("/")), _layers(layers))
