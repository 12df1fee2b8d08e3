"""What single keys carried: a key's summary and latest calls, what a revocation would stop, the facts behind badges.

Counts come from the roll-up and its remainder, so that a key with millions of calls is as quick as any; addresses and
user agents are only in the calls themselves, of which a bounded number is read.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

from keys.builtin import SCOPES as OWN_SCOPES
from keys.models import ApiKey, Call, Grain, KeyUse, ScopeUse
from keys.models.key import KeyTerm
from keys.scopes import covers
from keys.usage.answers import Health, LastUsed, Seen, Summary, Traffic, Unknown
from keys.usage.questions import KEPT, OTHER, Window, floor, month, month_end
from keys.usage.rows import bounds, counted, many_rows, rows
from keys.verdict import Code

MOST: Final = 50
LATEST: Final = 200
MONTH: Final = timedelta(days=30)
WEEK: Final = timedelta(days=7)
_OWN_API: Final = tuple(name for name, *_ in OWN_SCOPES)
_CALLS_FOR_IPS: Final = 500
_CALLS_FOR_NETWORKS: Final = 100
# Evidence of use and the call's own record are written together; a clock may still tell their times apart.
_NEAR: Final = timedelta(seconds=1)

_SUMMARY: Final = """
SELECT grouping(r.code, r.endpoint, r.region), coalesce(r.code, r.endpoint, r.region), sum(r.calls)::bigint
  FROM ({rows}) r GROUP BY GROUPING SETS ((r.code), (r.endpoint), (r.region)) ORDER BY 3 DESC, 2
"""
_TRAFFIC: Final = """
SELECT grouping(r.key_id, r.endpoint, r.region), coalesce(r.key_id, r.endpoint, r.region), sum(r.calls)::bigint,
       max(r.last_at)
  FROM ({rows}) r GROUP BY GROUPING SETS ((r.key_id), (r.endpoint), (r.region)) ORDER BY 3 DESC, 2
"""
# `grouping` has a bit for each column that a row is not grouped by.
_FIRST, _SECOND, _THIRD = 0b011, 0b101, 0b110
_LATEST_OF_EACH: Final = """
SELECT k.id, c.at, c.ip, c.calls
  FROM unnest(%(key_id)s::text[]) AS k (id)
 CROSS JOIN LATERAL (SELECT at, ip, calls FROM keys_call
     WHERE key_id = k.id AND at >= %(since)s ORDER BY at DESC LIMIT %(most)s) c
"""
_IPS: Final = """
SELECT host(l.ip), sum(l.calls)::bigint, max(l.at), bool_or(l.is_full)
  FROM (SELECT at, ip, calls, count(*) OVER (PARTITION BY id) >= %(most)s AS is_full FROM ({latest}) c) l
 GROUP BY 1 ORDER BY 2 DESC, 1
"""
_LAST_OF_EACH: Final = "SELECT id, max(at) FROM ({latest}) l GROUP BY 1"
_NETWORKS: Final = """
SELECT id, count(DISTINCT network(set_masklen(ip, CASE family(ip) WHEN 4 THEN 24 ELSE 56 END)))
  FROM ({latest}) l WHERE ip IS NOT NULL GROUP BY 1
"""
_HEALTH: Final = """
SELECT r.key_id, sum(r.calls)::bigint, coalesce(sum(r.calls) FILTER (WHERE r.code <> 'VALID'), 0)::bigint,
       count(DISTINCT r.region) FILTER (WHERE r.code = 'VALID' AND r.region <> '')
  FROM ({rows}) r GROUP BY 1
"""
_UNKNOWN: Final = """
SELECT code, network, sum(calls)::bigint FROM keys_unknowncalls
 WHERE minute >= %(since)s AND minute < %(until)s
   AND (%(organization)s::text IS NULL OR organization_id = %(organization)s)
 GROUP BY 1, 2 ORDER BY 3 DESC, 2
"""


def summary(key: ApiKey, now: datetime) -> Summary:
    """Return what a key did in the running calendar month (UTC), and when it was last used."""
    found = Window(Grain.DAY, month(now), month_end(now))
    sql, parameters = counted({"organization_id": [key.organization_id], "key_id": [key.id]})
    answer = rows(_SUMMARY.format(rows=sql), {**parameters, **bounds(found)})
    by_outcome = {name: calls for kind, name, calls in answer if kind == _FIRST}
    calls = sum(by_outcome.values())
    return Summary(
        requests_current_period=calls,
        period_start=found.since,
        period_end=found.until,
        by_outcome=by_outcome,
        error_rate=(calls - by_outcome.get(Code.VALID, 0)) / calls if calls else 0.0,
        last_used=_last_used(key),
        by_endpoint=_shortened((name, calls) for kind, name, calls in answer if kind == _SECOND),
        by_region=_shortened((name, calls) for kind, name, calls in answer if kind == _THIRD),
    )


def latest(key: ApiKey, limit: int = 20) -> list[Call]:
    """Return a key's latest calls, whatever became of them, newest first; `limit` is at most 200."""
    own = Call.objects.filter(organization_id=key.organization_id, key_id=key.id)
    return list(own.order_by("-at")[: min(limit, LATEST)])


def traffic(key_ids: Collection[str], since: datetime, now: datetime) -> Traffic:
    """Return what keys carried since a time, within the last 7 days: what would stop if they were revoked.

    Three statements, whatever the number of keys and of their calls.
    """
    since = max(since, now - KEPT[Grain.MINUTE])
    found = Window(Grain.MINUTE, floor(since, Grain.MINUTE), floor(now, Grain.MINUTE) + timedelta(days=1))
    sql, parameters = counted({"key_id": key_ids})
    answer = rows(_TRAFFIC.format(rows=sql), {**parameters, **bounds(found)})
    last = dict(
        rows(
            _LAST_OF_EACH.format(latest=_LATEST_OF_EACH),
            {"key_id": list(key_ids), "since": found.since, "most": 1},
        )
    )
    ips = rows(
        _IPS.format(latest=_LATEST_OF_EACH),
        {"key_id": list(key_ids), "since": found.since, "most": _CALLS_FOR_IPS},
    )
    by_key = {
        name: Seen(calls=calls, last_at=last.get(name, at))
        for kind, name, calls, at in answer
        if kind == _FIRST
    }
    return Traffic(
        calls=sum(seen.calls for seen in by_key.values()),
        by_key=by_key,
        by_endpoint=_seen((name, calls, at) for kind, name, calls, at in answer if kind == _SECOND),
        by_region=_seen((name, calls, at) for kind, name, calls, at in answer if kind == _THIRD),
        by_ip=_seen((ip or "", calls, at) for ip, calls, at, _ in ips),
        are_ips_complete=not any(is_full for *_, is_full in ips),
    )


def unknown(organization_id: str | None, since: datetime, until: datetime) -> Unknown:
    """Return how often an organization's verifiers (None: everybody's) were shown what is no key.

    Counted by the minute; those that the range cuts count whole.

    Raises:
        TakesTooLong: there are more rows than can be added up in time.
    """
    found = Window(Grain.MINUTE, floor(since, Grain.MINUTE), until)
    answer = many_rows(
        _UNKNOWN, {"organization": organization_id, "since": found.since, "until": found.until}
    )
    networks: dict[str, int] = {}
    for _, network, calls in answer:
        networks[network] = networks.get(network, 0) + calls
    return Unknown(
        malformed=sum(calls for code, _, calls in answer if code == Code.MALFORMED),
        not_found=sum(calls for code, _, calls in answer if code == Code.NOT_FOUND),
        by_network=_shortened(sorted(networks.items(), key=lambda item: (-item[1], item[0]))),
    )


def health(organization_id: str, key_ids: Collection[str], now: datetime) -> dict[str, Health]:
    """Return the facts behind the badges of some of an organization's keys, each of them, in four statements."""
    found = Window(Grain.DAY, floor(now - MONTH, Grain.DAY), floor(now, Grain.DAY) + timedelta(days=1))
    sql, parameters = counted({"organization_id": [organization_id], "key_id": key_ids})
    counts = {
        key_id: numbers
        for key_id, *numbers in rows(_HEALTH.format(rows=sql), {**parameters, **bounds(found)})
    }
    recent = {"key_id": list(key_ids), "since": floor(now - WEEK, Grain.DAY), "most": _CALLS_FOR_NETWORKS}
    networks: dict[str, int] = dict(rows(_NETWORKS.format(latest=_LATEST_OF_EACH), recent))
    unused = unused_scopes(organization_id, key_ids, now, says_something=True)
    return {
        key_id: _health(counts.get(key_id, (0, 0, 0)), networks.get(key_id, 0), unused.get(key_id, ()))
        for key_id in key_ids
    }


def _health(counts: Collection[Any], networks: int, unused: tuple[str, ...]) -> Health:
    calls, refused, regions = counts
    return Health(calls=calls, refused=refused, regions=regions, networks=networks, unused_scopes=unused)


def unused_scopes(
    organization_id: str,
    key_ids: Collection[str],
    now: datetime,
    window: timedelta = MONTH,
    *,
    says_something: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Return, for each key older than the window, the scopes that it carried all through it and no call asked for.

    The scopes of the portal's own API are left out: a key that calls it asks for nothing, so that nothing can be told.
    `says_something`: only of keys of which calls asked for some scope; where services verify without naming what they
    need, silence says nothing.
    """
    asked = _asked(organization_id, key_ids, now - window)
    granted = KeyTerm.objects.filter(
        organization_id=organization_id, key_id__in=key_ids, since__gte=now - window
    )
    fresh = set(granted.values_list("key_id", "term"))
    old = ApiKey.objects.of(organization_id).filter(pk__in=key_ids, created_at__lt=now - window)
    return {
        key_id: tuple(
            scope
            for scope in scopes
            if (key_id, f"scope:{scope}") not in fresh
            and not any(covers(scope, own) for own in _OWN_API)
            and not any(covers(scope, use) for use in asked.get(key_id, ()))
        )
        for key_id, scopes in old.values_list("id", "scopes")
        if key_id in asked or not says_something
    }


def scope_uses(key: ApiKey) -> dict[str, date]:
    """Return the last day (UTC) on which a valid call asked a key for each scope that any asked for."""
    used = ScopeUse.objects.filter(organization_id=key.organization_id, key_id=key.id)
    return dict(used.values_list("scope", "last_used_on"))


def _asked(organization_id: str, key_ids: Collection[str], since: datetime) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    used = ScopeUse.objects.filter(
        organization_id=organization_id, key_id__in=key_ids, last_used_on__gte=since.date()
    )
    for key_id, scope in used.values_list("key_id", "scope"):
        asked.setdefault(key_id, []).append(scope)
    return asked


def _last_used(key: ApiKey) -> LastUsed | None:
    use = KeyUse.objects.filter(organization_id=key.organization_id, pk=key.id).first()
    if use is None or use.last_used_at is None:
        return None
    near = Call.objects.filter(
        organization_id=key.organization_id,
        key_id=key.id,
        code=Code.VALID,
        at__range=(use.last_used_at - _NEAR, use.last_used_at + _NEAR),
    )
    call = near.order_by("-at").first()
    return LastUsed(
        at=use.last_used_at,
        ip=use.last_used_ip,
        region=call.region if call else "",
        user_agent=call.user_agent if call else "",
    )


def _shortened(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the first 50 of counts that come most first, and the rest as one."""
    found: dict[str, int] = {}
    for number, (name, calls) in enumerate(counts):
        kept = name if number < MOST else OTHER
        found[kept] = found.get(kept, 0) + calls
    return found


def _seen(found: Iterable[tuple[str, int, datetime]]) -> Mapping[str, Seen]:
    everything = [(name, Seen(calls=calls, last_at=at)) for name, calls, at in found]
    return dict(everything[:MOST])
