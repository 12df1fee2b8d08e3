"""Every operation of the API, once: what it sends, how its answer is read, and whether it may be repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keystead.asking import (
    ABSENT,
    Absent,
    Moment,
    OneOrMore,
    acting,
    creating,
    given,
    moment,
    nothing,
    nullable,
    query,
    reading,
    several,
)
from keystead.calls import Call, Repeat, key_path, path_of
from keystead.errors import UnreadableAnswer
from keystead.models import (
    VALID,
    CreatedKey,
    EntitlementCheck,
    Key,
    KeyInfo,
    Me,
    Organization,
    Page,
    Plan,
    Quota,
    RateLimit,
    RotatedKey,
    Rotation,
    UsedApproval,
    Verdict,
    VerifiedKey,
)
from keystead.question import Question
from keystead.reading import read
from keystead.secret import Secret, looks_like_secret
from keystead.usage import KeyUsage, UsageReport

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def verify(question: Question) -> Call[Verdict]:
    """Have a presented secret judged; spends its cost.

    A call that costs anything is repeated only where the portal surely did not count it.
    """
    repeat = Repeat.ANY_TIME if question.cost == 0 else Repeat.UNPROCESSED
    call = Call("POST", "/v1/keys/verify", _verdict, body=question.body(), repeat=repeat)
    return call.named(question.request_id)


def create_key(
    *,
    name: str,
    kind: str,
    environment: str,
    scopes: Sequence[str],
    org_id: str | None = None,
    project: str | None = None,
    description: str | None = None,
    owner: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    allowed_ips: Sequence[str] | None = None,
    rate_limit: Mapping[str, Any] | None = None,
    expires_at: Moment | Absent | None = ABSENT,
    expires_in_days: int | None = None,
    rotation_interval_days: int | None = None,
    auto_rotate: bool | None = None,
    may_rotate_itself: bool | None = None,
    approval_bound: bool | None = None,
    idempotency_key: str | None = None,
) -> Call[CreatedKey]:
    """Create a key; the answer holds its secret, this once.

    Args:
        name: `[a-z0-9][a-z0-9-]{1,62}`, unique among the environment's keys in use.
        kind: `ingestion`, `control_plane` or `service`.
        environment: its slug.
        scopes: 1 to 64 of the catalogue; nobody gives more than they hold.
        org_id: the customer to create for; with a key of the operator's organization alone.
        project: its id; the root, or the client's own, unless given.
        owner: `{"type": "member", "id": "usr_…"}` or `{"type": "team", "name": "…"}`.
        tags: at most 20.
        allowed_ips: CIDRs; empty for any address.
        rate_limit: `{"requests", "window_seconds"}` or `{"tier": slug}`; the plan's unless given.
        expires_at: with a zone; None for never, where the policy allows it; the policy's default unless given.
        expires_in_days: instead of `expires_at`.
        idempotency_key: your own, so that a creation that you repeat makes one key; drawn unless given.

    Raises:
        ApiError: PermissionDenied, Conflict (`name_taken`), Invalid and their like.
    """
    body = given(
        name=name,
        kind=kind,
        environment=environment,
        scopes=list(scopes),
        organization=org_id,
        project=project,
        description=description,
        owner=owner,
        tags=tags,
        allowed_ips=None if allowed_ips is None else list(allowed_ips),
        rate_limit=rate_limit,
        expires_in_days=expires_in_days,
        rotation_interval_days=rotation_interval_days,
        auto_rotate=auto_rotate,
        may_rotate_itself=may_rotate_itself,
        approval_bound=approval_bound,
    ) | nullable(expires_at=expires_at)
    return creating("/v1/api-keys", body, CreatedKey, idempotency_key)


def list_keys(
    *,
    org_id: str | None = None,
    status: str | None = None,
    kind: str | None = None,
    environment: str | None = None,
    project: str | None = None,
    owner: str | None = None,
    scope: str | None = None,
    tags: Mapping[str, str] | None = None,
    q: str | None = None,
    expires_before: Moment | None = None,
    unused_since: Moment | None = None,
    sort: str | None = None,
    page_size: int | None = None,
) -> Call[Page]:
    """List the keys that the client may see, page by page as they are asked for.

    Args:
        org_id: a customer's; with a key of the operator's organization alone.
        status: `active`, `disabled`, `expired` or `revoked`.
        project: an id; its descendants count.
        owner: a member's id, or a team's name.
        q: a full id, a hint, or the start of a name; never a secret.
        sort: `created_at`, `last_used_at`, `expires_at` or `name`; `-` before it for falling.
        page_size: 1 to 200 keys a call.
    """
    parameters = query(
        organization=org_id,
        status=status,
        kind=kind,
        environment=environment,
        project=project,
        owner=owner,
        scope=scope,
        q=q,
        expires_before=moment(expires_before),
        unused_since=moment(unused_since),
        sort=sort,
        limit=page_size,
    )
    parameters += [("tag", f"{name}:{value}") for name, value in (tags or {}).items()]
    return reading("/v1/api-keys", Page, parameters)


def get_key(key_id: str) -> Call[Key]:
    """Return a key, with its secrets' versions; never a secret.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(key_path(key_id), Key)


def update_key(
    key_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    owner: Mapping[str, str] | Absent | None = ABSENT,
    tags: Mapping[str, str] | None = None,
    scopes: Sequence[str] | None = None,
    expires_at: Moment | Absent | None = ABSENT,
    allowed_ips: Sequence[str] | None = None,
    rate_limit: Mapping[str, Any] | Absent | None = ABSENT,
    enabled: bool | None = None,
    disabled_until: Moment | Absent | None = ABSENT,
    rotation_interval_days: int | Absent | None = ABSENT,
    auto_rotate: bool | None = None,
    may_rotate_itself: bool | None = None,
) -> Call[Key]:
    """Change a key; what is not given stays as it is.

    Args:
        owner, expires_at, rate_limit, disabled_until, rotation_interval_days: None takes it away.
        enabled: False disables until it is enabled again; `disabled_until` until then.

    Raises:
        ApiError: NotFound, PermissionDenied, Conflict, Invalid.
    """
    body = given(
        name=name,
        description=description,
        tags=tags,
        scopes=None if scopes is None else list(scopes),
        allowed_ips=None if allowed_ips is None else list(allowed_ips),
        enabled=enabled,
        auto_rotate=auto_rotate,
        may_rotate_itself=may_rotate_itself,
    ) | nullable(
        owner=owner,
        expires_at=expires_at,
        rate_limit=rate_limit,
        disabled_until=disabled_until,
        rotation_interval_days=rotation_interval_days,
    )
    return Call("PATCH", key_path(key_id), lambda data: read(Key, data), body=body)


def rotate_key(
    key_id: str | None = None,
    *,
    mode: str | None = None,
    grace_seconds: int | None = None,
    version: int | None = None,
    targets: Sequence[str] | None = None,
    quiet_seconds: int | None = None,
    deadline: Moment | None = None,
    idempotency_key: str | None = None,
) -> Call[RotatedKey]:
    """Give a key a new secret; the answer holds it, this once.

    Args:
        key_id: the client's own key unless given, which needs no scope.
        mode: `grace` (unless given), `staged`, or `immediate`: the old secret stops at once.
        grace_seconds: that the old secret lives on, 86,400 unless given.
        version: the newest that you know; Conflict where there is a newer one.
        targets: names of what a staged rotation moves, 1 to 64: the regions that your verifiers report.
        quiet_seconds: without the old secret, after which a target has moved; 600 unless given.
        deadline: after which what has not moved is overdue; in 7 days unless given.
        idempotency_key: your own; drawn unless given.

    Raises:
        ApiError: NotFound, PermissionDenied, Conflict (`rotation_running`), Invalid.
    """
    body = given(
        mode=mode,
        version=version,
        grace_seconds=grace_seconds,
        targets=None if targets is None else list(targets),
        quiet_seconds=quiet_seconds,
        deadline=moment(deadline),
    )
    path = "/v1/keys/rotate" if key_id is None else key_path(key_id, "rotate")
    return creating(path, body, RotatedKey, idempotency_key)


def get_rotation(rotation_id: str) -> Call[Rotation]:
    """Return a rotation with its targets: with the scope keys:rotate, or the key's own newest secret.

    Its `sealed_secret` is handed out once, to a key with the scope: keep it before you open it.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(_rotation(rotation_id), Rotation)


def complete_rotation(rotation_id: str) -> Call[Rotation]:
    """Retire the old secret now, whatever has moved.

    Raises:
        NotFound: there is none that the client may see.
        Conflict: it was cancelled, or another one took its place.
    """
    return acting(_rotation(rotation_id, "complete"), Rotation)


def cancel_rotation(rotation_id: str) -> Call[Rotation]:
    """Retire the new secret and keep the old one, while it is accepted.

    Raises:
        NotFound: there is none that the client may see.
        Conflict: it has ended.
    """
    return acting(_rotation(rotation_id, "cancel"), Rotation)


def burn_secret(secret: str) -> Call[None]:
    """Kill a secret that was found somewhere, by its possession: no key of the client's own is sent.

    The portal says nothing of what it was. The key is revoked; while it is rotated, the found secret alone is.

    Args:
        secret: as it was found.

    Raises:
        TooManyRequests: from this address, too often.
    """
    body = {"secret": Secret(secret)}
    return Call("POST", "/v1/keys/revoke", nothing, body=body, repeat=Repeat.ANY_TIME, is_anonymous=True)


def revoke_key(key_id: str, *, reason: str | None = None, note: str | None = None) -> Call[None]:
    """Revoke a key for good; revoking again changes nothing.

    Args:
        reason: `leaked`, `unused`, `rotated_out`, `owner_left`, `incident` or `other`.
        note: at most 1,000 bytes, kept sealed in the security log.

    Raises:
        ApiError: NotFound, PermissionDenied.
    """
    body = given(reason=reason, note=note)
    return Call("POST", key_path(key_id, "revoke"), nothing, body=body, repeat=Repeat.ANY_TIME)


def get_usage(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    interval: str | None = None,
    group_by: str | None = None,
    org_id: str | None = None,
    key: OneOrMore | None = None,
    endpoint: OneOrMore | None = None,
    region: OneOrMore | None = None,
    outcome: OneOrMore | None = None,
    environment: OneOrMore | None = None,
    project: OneOrMore | None = None,
) -> Call[UsageReport]:
    """Count calls over time.

    Args:
        since: the portal's default, a day before `until`, unless given.
        until: now unless given.
        interval: `minute`, `hour` or `day`; by the range unless given.
        group_by: `key`, `organization`, `endpoint`, `region`, `outcome`, `environment` or `project`.
        org_id: a customer's; with a key of the operator's organization alone.
        key, endpoint, region, outcome, environment, project: count these alone; of several, any.
    """
    bounds = {"from": moment(since), "to": moment(until)}
    parameters = query(**bounds, interval=interval, group_by=group_by, organization=org_id)
    filters = {
        "key": key,
        "endpoint": endpoint,
        "region": region,
        "outcome": outcome,
        "environment": environment,
        "project": project,
    }
    parameters += [(name, value) for name, given in filters.items() for value in several(given)]
    return reading("/v1/usage", UsageReport, parameters)


def get_usage_of_key(key_id: str, *, org_id: str | None = None) -> Call[KeyUsage]:
    """Return what a key was used for in the current period, and when last.

    Args:
        org_id: the customer whose key it is; with a key of the operator's organization alone.

    Raises:
        NotFound: there is none that the client may see.
    """
    return reading(key_path(key_id, "usage"), KeyUsage, query(organization=org_id))


def check_entitlement(key: str, entitlement: str) -> Call[EntitlementCheck]:
    """Tell whether a key's organization has bought something; the result is true where it has, and only there.

    Args:
        key: the key's id, or a secret of it as it was presented.
    """
    subject = {"key_id": key} if key.startswith("key_") and not looks_like_secret(key) else {"secret": key}
    body = {**subject, "entitlement": entitlement}
    path = "/v1/entitlements/check"
    return Call("POST", path, lambda data: read(EntitlementCheck, data), body=body, repeat=Repeat.ANY_TIME)


def get_me() -> Call[Me]:
    """Return the client's own key and the scopes that count now."""
    return reading("/v1/me", Me)


def _rotation(rotation_id: str, *rest: str) -> str:
    return path_of("/v1/rotations", rotation_id, *rest, like="a rotation's id: those look like rot_…")


@dataclass(frozen=True)
class _Known:
    """The members of an answer about a known key, beside `valid` and `code`."""

    key: VerifiedKey
    organization: Organization
    plan: Plan
    project: str
    environment: str
    scopes: tuple[str, ...]
    entitlements: Mapping[str, Any] = field(default_factory=dict)
    rate_limit: RateLimit | None = None
    quota: Quota | None = None
    approval: UsedApproval | None = None


@dataclass(frozen=True)
class _Decided:
    valid: bool
    code: str
    request_id: str = ""
    missing_scopes: tuple[str, ...] = ()


def _verdict(data: Any) -> Verdict:
    """Return the verdict; an answer that contradicts itself is none."""
    decided = read(_Decided, data)
    key = _key_info(read(_Known, data), decided.request_id) if data.get("key") is not None else None
    is_odd = _CODE.fullmatch(decided.code) is None or decided.valid != (decided.code == VALID)
    if is_odd or (decided.valid and key is None):
        raise UnreadableAnswer("The answer contradicts itself.")
    return Verdict(decided.valid, decided.code, decided.request_id, key, decided.missing_scopes)


def _key_info(known: _Known, request_id: str) -> KeyInfo:
    key = known.key
    return KeyInfo(
        id=key.id,
        name=key.name,
        kind=key.kind,
        owner=key.owner,
        organization=known.organization,
        plan=known.plan,
        project=known.project,
        environment=known.environment,
        scopes=known.scopes,
        entitlements=known.entitlements,
        tags=key.tags,
        secret_version=key.secret_version,
        retiring=key.retiring,
        expires_at=key.expires_at,
        expires_soon=key.expires_soon,
        accepted_until=key.accepted_until,
        rate_limit=known.rate_limit,
        quota=known.quota,
        request_id=request_id,
        approval=known.approval,
    )
