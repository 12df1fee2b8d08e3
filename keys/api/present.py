"""Keys, rotations and verdicts as the API shows them, for any number of keys in a few queries."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import F, Q

from keys import progress, rotation, secret
from keys.api.answers import (
    ElsewhereOut,
    KeyLimitOut,
    KeyOut,
    MemberOut,
    OwnerOut,
    RotationOut,
    SealedOut,
    SecretOut,
    TargetOut,
    TeamOut,
)
from keys.models import ApiKey, KeySecret, KeyUse, OwnerType, Rotation, SecretUse, Tier
from keys.models.key import RevocationReason
from keys.models.rotation import RotationMode
from keys.policy import Source, effective_limit
from keys.progress import Place, Progress
from keys.secret import Kind, Mode
from keys.services.auto_rotation import Sealed
from orgs.models import Organization
from orgs.terms import RateLimit

type Uses = Mapping[tuple[str, int], datetime | None]


def key(found: ApiKey, now: datetime) -> KeyOut:
    """Return one key as of `now`; read with its environment and owner."""
    return keys([found], now)[0]


def keys(found: Sequence[ApiKey], now: datetime) -> list[KeyOut]:
    """Return keys in their order, in nine queries more however many they are."""
    ids = [one.id for one in found]
    uses = KeyUse.objects.in_bulk(ids)
    by_version = _uses(ids)
    secrets, running, holding = _secrets(ids, now), _running(ids, now), limits(found)
    coming = progress.of_many(list(running.values()), now)
    return [
        _key(
            one,
            uses[one.id],
            secrets[one.id],
            coming[running[one.id].id] if one.id in running else None,
            by_version,
            limit=holding[one.id],
            now=now,
        )
        for one in found
    ]


def limits(found: Sequence[ApiKey]) -> Mapping[str, KeyLimitOut | None]:
    """Return the rate limit that holds for each key, by its id."""
    tiers = Tier.objects.in_bulk({one.tier_id for one in found if one.tier_id})
    organizations = Organization.objects.select_related("plan").in_bulk(
        {one.organization_id for one in found}
    )
    plans = {each.id: each.terms.rate_limit for each in organizations.values()}
    return {
        one.id: _limit(one, tiers[one.tier_id] if one.tier_id else None, plans[one.organization_id])
        for one in found
    }


def _limit(one: ApiKey, tier: Tier | None, plan: RateLimit | None) -> KeyLimitOut | None:
    limit, source = effective_limit(one.own_rate_limit, tier.rate_limit if tier else None, plan)
    if limit is None or source is None:
        return None
    named = {"tier": tier.slug} if tier and source is Source.TIER else {}
    return KeyLimitOut(requests=limit.requests, window_seconds=limit.window_seconds, source=source, **named)


def one_rotation(found: Rotation, now: datetime, sealed: Sealed | None = None) -> RotationOut:
    """Return a rotation as of `now`; with its sealed secret, where it is being handed out."""
    return _rotation(progress.of(found, now), now, sealed)


def _uses(ids: Sequence[str]) -> Uses:
    found = SecretUse.objects.filter(key_id__in=ids, last_used_at__isnull=False)
    return {(use.key_id, use.version): use.last_used_at for use in found}


def _secrets(ids: Sequence[str], now: datetime) -> Mapping[str, list[KeySecret]]:
    """Return the secrets that can still be accepted, by key, the newest first."""
    current = Q(version=F("key__newest_version")) | Q(accepted_until__gt=now)
    found: dict[str, list[KeySecret]] = defaultdict(list)
    for one in KeySecret.objects.filter(current, key_id__in=ids).defer("digest"):
        found[one.key_id].append(one)
    return found


def _running(ids: Sequence[str], now: datetime) -> Mapping[str, Rotation]:
    running = Rotation.objects.running(now).filter(key_id__in=ids).select_related("key")
    return {one.key_id: one for one in running}


def _key(
    one: ApiKey,
    use: KeyUse,
    secrets: Sequence[KeySecret],
    running: Progress | None,
    uses: Uses,
    *,
    limit: KeyLimitOut | None,
    now: datetime,
) -> KeyOut:
    until = one.disabled_until
    return KeyOut(
        id=one.id,
        name=one.name,
        kind=Kind(one.kind),
        status=one.status(now),
        hint=_hint(one, one.hint),
        organization=one.organization_id,
        project=one.project_id,
        environment=one.environment.slug,
        owner=_owner(
            one.owner_type, one.owner_user_id, one.owner_user.name if one.owner_user else "", one.owner_team
        ),
        description=secret.redact(one.description),
        tags=_tags(one.tags),
        scopes=one.scopes,
        allowed_ips=one.allowed_ips,
        rate_limit=limit,
        expires_at=one.expires_at,
        created_at=one.created_at,
        created_by=one.created_by,
        updated_at=one.updated_at,
        disabled_until=until if until and until > now else None,
        last_used_at=use.last_used_at,
        last_used_ip=use.last_used_ip,
        rotation_interval_days=one.rotation_interval_days,
        auto_rotate=one.auto_rotate,
        may_rotate_itself=one.may_rotate_itself,
        approval_bound=one.approval_bound,
        secrets=[_secret(one, each, uses) for each in secrets],
        rotation=_rotation(running, now) if running else None,
        revoked_at=one.revoked_at,
        revoked_by=one.revoked_by or None,
        revocation_reason=RevocationReason(one.revocation_reason) if one.revocation_reason else None,
    )


def _secret(one: ApiKey, each: KeySecret, uses: Uses) -> SecretOut:
    return SecretOut(
        version=each.version,
        hint=_hint(one, each.hint),
        created_at=each.created_at,
        expires_at=each.expires_at,
        accepted_until=rotation.known_end(each.accepted_until),
        last_used_at=uses.get((one.id, each.version)),
    )


def _rotation(found: Progress, now: datetime, sealed: Sealed | None = None) -> RotationOut:
    one = found.rotation
    status = one.state(now)
    is_immediate = one.mode == RotationMode.IMMEDIATE
    return RotationOut(
        id=one.id,
        key=one.key_id,
        mode=rotation.Mode(one.mode),
        status=status,
        overdue=one.is_overdue(now),
        old_version=one.old_version,
        new_version=one.new_version,
        started_at=one.started_at,
        started_by=one.started_by,
        grace_ends_at=None if is_immediate else one.stops_at,
        quiet_seconds=one.quiet_seconds,
        deadline=one.deadline,
        completed_at=(one.completed_at or one.grace_ends_at) if status is rotation.State.COMPLETED else None,
        targets=[_target(target) for target in found.targets],
        elsewhere=ElsewhereOut(
            old_last_used_at=found.elsewhere.seen.old_at, old_calls_1h=found.elsewhere.old_calls
        ),
        sealed_secret=SealedOut(recipient=sealed.recipient, ciphertext=sealed.ciphertext) if sealed else None,
    )


def _target(found: Place) -> TargetOut:
    return TargetOut(
        name=found.name,
        state=found.state or rotation.TargetState.WAITING,
        old_last_used_at=found.seen.old_at,
        new_last_used_at=found.seen.new_at,
        old_calls_1h=found.old_calls,
        new_calls_1h=found.new_calls,
    )


def _owner(owner_type: str, user_id: str | None, user_name: str | None, team: str) -> OwnerOut:
    if owner_type == OwnerType.MEMBER:
        return MemberOut(type="member", id=user_id or "", name=secret.redact(user_name or ""))
    return TeamOut(type="team", name=secret.redact(team))


def _tags(tags: Any) -> dict[str, str]:
    """Return tags as they are shown: a secret that was typed there by mistake is hidden."""
    return {name: secret.redact(value) for name, value in tags.items()}


def _hint(one: ApiKey, hint: str) -> str:
    return secret.display(settings.KEY_BRAND, Kind(one.kind), Mode(one.environment.mode), hint)
