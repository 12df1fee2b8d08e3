"""Incidents as pages show them: what was stopped, what it did before, what still tries, and what took its place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, F

from keys.errors import TakesTooLong
from keys.models import ApiKey, Grain, Incident, IncidentKey, IncidentKind
from keys.usage.questions import KEPT, floor
from keys.usage.rows import many_rows, rows
from keys.verdict import Code
from orgs.members import Member
from orgs.roles import Permission

PAGE: Final = 50
LATEST: Final = 5
# By the day, which counts from its midnight: exact, because no call is refused as revoked before its key is. Of a leak,
# which may have disabled the key or ended one secret alone, by the minute, as long as these are kept.
_REFUSED: Final = """
SELECT r.key_id, sum(r.calls)::bigint FROM (
    SELECT key_id, calls FROM keys_usage
     WHERE organization_id = %(organization)s AND grain = %(grain)s AND at >= %(since)s AND code = ANY(%(codes)s)
    UNION ALL
    SELECT key_id, calls FROM keys_call
     WHERE xid >= (SELECT rolled_until FROM keys_usagemark) AND organization_id = %(organization)s AND at >= %(since)s
       AND code = ANY(%(codes)s)
) r WHERE r.key_id = ANY(%(keys)s) GROUP BY 1
"""
_BEFORE: Final = """
SELECT c.key_id, c.at, c.code, c.endpoint, c.region, host(c.ip), c.user_agent, c.request_id, c.calls
  FROM unnest(%(keys)s::text[]) AS k (id)
 CROSS JOIN LATERAL (SELECT * FROM keys_call WHERE key_id = k.id AND organization_id = %(organization)s
     AND at <= %(opened)s ORDER BY at DESC LIMIT %(most)s) c
"""
_SINCE: Final = """
SELECT c.key_id, c.at, host(c.ip), c.region, c.endpoint
  FROM unnest(%(keys)s::text[]) AS k (id)
 CROSS JOIN LATERAL (SELECT * FROM keys_call WHERE key_id = k.id AND organization_id = %(organization)s
     AND at > %(opened)s AND code = ANY(%(codes)s) ORDER BY at DESC LIMIT 1) c
"""
PATIENCE: Final = "3s"
_CODES: Final[Mapping[str, Sequence[str]]] = {
    IncidentKind.BREAK_GLASS: (Code.REVOKED,),
    IncidentKind.LEAK: (Code.REVOKED, Code.DISABLED, Code.SECRET_RETIRED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """One of the last calls with a key before it was stopped."""

    at: datetime
    code: str
    endpoint: str
    region: str
    ip: str
    user_agent: str
    request_id: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The newest call that was refused because of the incident."""

    at: datetime
    ip: str
    region: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A key of an incident. `successor`: a key of the same name and environment that took its place."""

    frozen: IncidentKey
    key: ApiKey
    before: Sequence[Before]
    refused: int
    tried: Tried | None
    successor: ApiKey | None
    may_reissue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some keys of an incident, those with the most calls first, and how many there are in all."""

    rows: Sequence[Row]
    total: int
    number: int

    @property
    def has_next(self) -> bool:
        """Whether there are more."""
        return self.number * PAGE < self.total


def page(incident: Incident, member: Member, visible: Any, number: int, now: datetime) -> Page:
    """Return one page of the keys of an incident that a person sees, in statements of a constant number.

    Args:
        visible: the incident's keys that the person may see (`access.keys_of_incident`).
        number: from 1.
    """
    total = visible.count()
    ordered = visible.order_by(F("calls_24h").desc(nulls_last=True), "key_id")
    chosen = list(
        ordered.select_related("key__project", "key__environment", "key__owner_user")[
            (number - 1) * PAGE : number * PAGE
        ]
    )
    ids = [one.key_id for one in chosen]
    before, tried = _before(incident, ids), _tried(incident, ids)
    refused, successors = refused_by_key(incident, ids, now), _successors([one.key for one in chosen])
    return Page(
        rows=[
            Row(
                frozen=one,
                key=one.key,
                before=before.get(one.key_id, ()),
                refused=refused.get(one.key_id, 0),
                tried=tried.get(one.key_id),
                successor=successors.get((one.key.environment_id, one.key.name)),
                may_reissue=member.may(Permission.KEYS_CHANGE, one.key.project),
            )
            for one in chosen
        ],
        total=total,
        number=number,
    )


def refused_by_key(incident: Incident, key_ids: Collection[str], now: datetime) -> Mapping[str, int]:
    """Return how many calls with each key were refused since the incident; empty where there are too many to count."""
    is_recent = incident.opened_at > now - KEPT[Grain.MINUTE]
    grain = Grain.MINUTE if incident.kind == IncidentKind.LEAK and is_recent else Grain.DAY
    parameters = {**_of(incident, key_ids), "grain": grain.value, "since": floor(incident.opened_at, grain)}
    try:
        return dict(many_rows(_REFUSED, parameters, patience=PATIENCE))
    except TakesTooLong:
        return {}


def counted(incidents: Collection[Incident], visible: Any) -> dict[str, int]:
    """Return how many keys of each incident a person sees."""
    found = visible.filter(incident__in=[one.id for one in incidents]).order_by()
    return dict(found.values_list("incident_id").annotate(number=Count("key_id")))


def _before(incident: Incident, ids: Sequence[str]) -> dict[str, list[Before]]:
    found: dict[str, list[Before]] = {}
    parameters = _of(incident, ids) | {"most": LATEST}
    for key_id, at, code, endpoint, region, ip, agent, request_id, calls in rows(_BEFORE, parameters):
        call = Before(
            at=at,
            code=code,
            endpoint=endpoint,
            region=region,
            ip=ip or "",
            user_agent=agent,
            request_id=request_id,
            calls=calls,
        )
        found.setdefault(key_id, []).append(call)
    return found


def _tried(incident: Incident, ids: Sequence[str]) -> dict[str, Tried]:
    return {
        key_id: Tried(at=at, ip=ip or "", region=region, endpoint=endpoint)
        for key_id, at, ip, region, endpoint in rows(_SINCE, _of(incident, ids))
    }


def _of(incident: Incident, ids: Collection[str]) -> dict[str, Any]:
    return {
        "organization": incident.organization_id,
        "keys": list(ids),
        "opened": incident.opened_at,
        "codes": list(_CODES[IncidentKind(incident.kind)]),
    }


def _successors(keys: Sequence[ApiKey]) -> dict[tuple[str, str], ApiKey]:
    """Return the keys that have the names of some that ended: the database lets one have a name at a time."""
    found = ApiKey.objects.filter(
        environment_id__in={key.environment_id for key in keys},
        name__in={key.name for key in keys},
        ended_at__isnull=True,
    )
    return {(key.environment_id, key.name): key for key in found}
