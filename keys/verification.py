"""Verification: read the truth, decide, leave the evidence, answer. No cache; one transaction a call.

Runs on a login of its own (`DATABASE_VERIFY_URL`), which reads every organization's keys and may write nothing but
evidence of use and a digest under a newer pepper. Source: spec KEYS §7.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connections, transaction

from keys import catalogue, peppers, verdict
from keys import secret as secrets
from keys.callers import Presented
from keys.errors import Malformed
from keys.models import ApiKey
from keys.scopes import Query
from keys.secret import Mode
from orgs.models import Project
from orgs.roles import Role, ceiling, highest

DATABASE: Final = "verify"
LOCK_TIMEOUT_MS: Final = 500
OWN_USE_EVERY: Final = timedelta(minutes=1)

_RECORD: Final = """
SELECT s.version, s.expires_at, s.accepted_until, s.pepper_version, s.digest,
       k.id, k.name, k.kind, k.organization_id, k.scopes, k.allowed_ips, k.tags, k.newest_version, k.hint,
       k.is_disabled, k.disabled_until, k.revoked_at, k.owner_type, k.owner_user_id, k.owner_team, u.name AS owner_name,
       o.slug AS organization_slug, o.name AS organization_name, o.is_operator, o.suspended_at,
       pl.slug AS plan_slug, pl.name AS plan_name, e.slug AS environment, e.mode, k.project_id, p.path,
       (SELECT jsonb_agg(a.scopes) FROM orgs_project a
         WHERE a.organization_id = k.organization_id AND starts_with(p.path, a.path)) AS layers,
       (SELECT jsonb_agg(m.role) FROM orgs_membership m LEFT JOIN orgs_project mp ON mp.id = m.project_id
         WHERE m.organization_id = k.organization_id AND m.user_id = k.owner_user_id
           AND (m.project_id IS NULL OR starts_with(p.path, mp.path))) AS roles,
       clock_timestamp() AS now
  FROM keys_keysecret s
  JOIN keys_apikey k ON k.id = s.key_id
  JOIN orgs_organization o ON o.id = k.organization_id
  JOIN orgs_plan pl ON pl.slug = o.plan_id
  JOIN orgs_environment e ON e.id = k.environment_id
  JOIN orgs_project p ON p.id = k.project_id
  LEFT JOIN orgs_user u ON u.id = k.owner_user_id
 WHERE s.digest = ANY(%s)
"""
_REQUESTED_PROJECT: Final = """
SELECT p.path, jsonb_agg(a.scopes)
  FROM orgs_project p JOIN orgs_project a ON a.organization_id = p.organization_id AND starts_with(p.path, a.path)
 WHERE p.id = %s AND p.organization_id = %s GROUP BY p.path
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a verifier wants to know of a presented secret; every field is bounded before it comes here.

    `verifier_organization_id` is None for a verifier of the operator's, which sees every organization's keys.
    `cost` 0 looks without leaving a trace.
    """

    verifier_organization_id: str | None
    query: Query | None = None
    environment: str | None = None
    project: str | None = None
    ip: str | None = None
    cost: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, and of the key what the database had at that moment (None: nothing that may be told)."""

    verdict: verdict.Verdict
    row: Mapping[str, Any] | None


def verify(text: str, ask: Ask) -> Answer:
    """Judge a presented secret; a valid call with cost leaves its evidence, committed, before this returns.

    Raises:
        OperationalError: PostgreSQL is out of reach or a row stays locked: the answer is 503, never a verdict.
    """
    try:
        secrets.parse(text, settings.KEY_BRAND)
    except Malformed:
        return Answer(verdict.MALFORMED, None)
    with _transaction():
        row = _fetch(text)
        found = _decide(row, ask)
        if row is not None and found.is_valid and ask.cost > 0:
            _touch(row, ask.ip, every=timedelta(0))
            _renew_digest(row, text)
    return Answer(found, None if found is verdict.NOT_FOUND else row)


def authenticate(text: str, *, ip: str) -> tuple[verdict.Verdict, Presented | None]:
    """Judge the key that a caller of the API presents for itself, its addresses and state included.

    Spends no limit; leaves its last use at most once a minute. The second part is None unless the key is valid.
    """
    try:
        secrets.parse(text, settings.KEY_BRAND)
    except Malformed:
        return verdict.MALFORMED, None
    with _transaction():
        row = _fetch(text)
        found = _decide(row, Ask(verifier_organization_id=None, ip=ip))
        if row is None or not found.is_valid:
            return found, None
        _touch(row, ip or None, every=OWN_USE_EVERY)
        _renew_digest(row, text)
    return found, _presented(row, found.scopes)


@contextmanager
def _transaction() -> Iterator[None]:
    with transaction.atomic(using=DATABASE):
        with connections[DATABASE].cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT_MS}ms"])
        yield


def _fetch(text: str) -> dict[str, Any] | None:
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(_RECORD, [peppers.digests(text)])
        values = cursor.fetchone()
        return (
            None if values is None else dict(zip((c.name for c in cursor.description), values, strict=True))
        )


def _decide(row: Mapping[str, Any] | None, ask: Ask) -> verdict.Verdict:
    if row is None:
        return verdict.NOT_FOUND
    path, layers = _requested_project(ask.project, row["organization_id"])
    request = verdict.Request(
        visible_organization_id=ask.verifier_organization_id,
        query=ask.query,
        environment=ask.environment,
        project_path=path,
        project_layers=layers,
        ip=ask.ip,
    )
    return verdict.decide(_record(row), request, row["now"])


def _record(row: Mapping[str, Any]) -> verdict.Record:
    return verdict.Record(
        organization_id=row["organization_id"],
        is_organization_suspended=row["suspended_at"] is not None,
        revoked_at=row["revoked_at"],
        is_disabled=row["is_disabled"],
        disabled_until=row["disabled_until"],
        version=row["version"],
        newest_version=row["newest_version"],
        expires_at=row["expires_at"],
        accepted_until=row["accepted_until"],
        environment=row["environment"],
        mode=Mode(row["mode"]),
        project_id=row["project_id"],
        networks=tuple(row["allowed_ips"]),
        scopes=tuple(row["scopes"]),
        layers=tuple(decoded(row["layers"]) or ()),
        risks=catalogue.risks(catalogue.load(DATABASE)),
        ceiling=_ceiling(row),
    )


def _ceiling(row: Mapping[str, Any]) -> frozenset[Any] | None:
    if row["owner_user_id"] is None:
        return None
    return ceiling(highest(Role(role) for role in decoded(row["roles"]) or ()))


def _requested_project(
    project_id: str | None, organization_id: str
) -> tuple[tuple[str, ...] | None, tuple[Any, ...]]:
    """Return the path and the layers of the project that the verifier names; an unknown one has an empty path."""
    if project_id is None:
        return None, ()
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(_REQUESTED_PROJECT, [project_id, organization_id])
        found = cursor.fetchone()
    if found is None:
        return (), ()
    return tuple(found[0].strip("/").split("/")), tuple(decoded(found[1]))


def decoded(value: Any) -> Any:
    """Decode jsonb, which Django leaves as text for its own fields to read."""
    return json.loads(value) if isinstance(value, str) else value


def _touch(row: Mapping[str, Any], ip: str | None, *, every: timedelta) -> None:
    """Write the evidence of use: rows that verification alone writes, so that nobody's open change stalls it."""
    before = row["now"] - every
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(
            "UPDATE keys_keyuse SET last_used_at = greatest(last_used_at, %s), last_used_ip = %s"
            " WHERE key_id = %s AND (last_used_at IS NULL OR last_used_at <= %s)",
            [row["now"], ip, row["id"], before if every else row["now"]],
        )
        cursor.execute(
            "UPDATE keys_secretuse SET last_used_at = greatest(last_used_at, %s) WHERE key_id = %s AND version = %s"
            " AND (last_used_at IS NULL OR last_used_at <= %s)",
            [row["now"], row["id"], row["version"], before if every else row["now"]],
        )


def _renew_digest(row: Mapping[str, Any], text: str) -> None:
    """Move a used secret's digest to the newest pepper, once: the old digest guards."""
    if row["pepper_version"] >= peppers.newest():
        return
    with connections[DATABASE].cursor() as cursor:
        cursor.execute(
            "UPDATE keys_keysecret SET digest = %s, pepper_version = %s"
            " WHERE key_id = %s AND version = %s AND digest = %s",
            [peppers.digest(text), peppers.newest(), row["id"], row["version"], bytes(row["digest"])],
        )


def _presented(row: Mapping[str, Any], scopes: tuple[str, ...]) -> Presented:
    """Return the caller's key, built from what was just judged rather than read a second time."""
    project = Project(id=row["project_id"], organization_id=row["organization_id"], path=row["path"])
    key = ApiKey(
        id=row["id"],
        name=row["name"],
        kind=row["kind"],
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        allowed_ips=list(row["allowed_ips"]),
        newest_version=row["newest_version"],
        expires_at=_earliest(row["expires_at"], row["accepted_until"]),
    )
    return Presented(
        key=key,
        version=row["version"],
        project=project,
        mode=Mode(row["mode"]),
        scopes=scopes,
        is_operator=row["is_operator"],
    )


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)
