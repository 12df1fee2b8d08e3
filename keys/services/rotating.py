"""Rotating a key: one guarded statement decides who is the successor."""

from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db.models import F, Q

from audit import ledger
from audit.acts import Act
from keys import catalogue, clock, rotation
from keys import secret as secrets
from keys.callers import Caller
from keys.errors import ExceedsGrant, VersionConflict
from keys.models import ApiKey, KeySecret, Rotation
from keys.policy import Bounds, allowance, grant_networks, refuse_excess
from keys.secret import Kind, Mode
from keys.services.common import check_reach, facts, policy_of, rule_for, terms_of
from keys.services.creation import insert_secret
from keys.verdict import is_disabled


@dataclass(frozen=True, slots=True)
class Rotated:
    """A rotation, its key, and the new secret. `secret` is secret: show it once."""

    rotation: Rotation
    key: ApiKey
    secret: str = field(repr=False)


def rotate_key(
    key: ApiKey,
    *,
    actor: Caller,
    mode: rotation.Mode = rotation.Mode.GRACE,
    grace_seconds: int | None = None,
    version: int | None = None,
) -> Rotated:
    """Give a key a new secret; what becomes of the old one is `mode`'s (spec KEYS §5).

    Writes the new version, the rotation, the older versions' `accepted_until`, and the entry `rotation.started` (and
    `rotation.superseded` of the one that an immediate rotation ends). Of any number of concurrent calls exactly one
    succeeds: the version that was read at the start guards.

    Args:
        key: with its project and environment; the caller's access to it was checked (404).
        mode, grace_seconds, version: see `keys.rotation.plan`.

    Raises:
        ExceedsGrant: another's key that holds more than the caller.
        StateForbids, SelfRotationRefused, Invalid, RotationRunning: see `keys.rotation.plan`.
        VersionConflict: another rotation was faster, or the caller knew another version.
    """
    check_reach(actor, key)
    with ledger.recording(key.organization_id, actor) as entry:
        now = clock.now()
        itself = _itself(key, actor)
        if itself is None:
            _refuse_excess(key, actor)
        running = _running(key, now)
        plan = rotation.plan(
            _standing(key, running, now),
            mode=mode,
            grace_seconds=grace_seconds,
            version=version,
            itself=itself,
            now=now,
        )
        text = secrets.generate(settings.KEY_BRAND, Kind(key.kind), Mode(key.environment.mode))
        _succeed(key, plan, secrets.hint(text), actor, now)
        insert_secret(key, version=plan.new_version, text=text, now=now)
        _retire(key, plan, now)
        if running is not None and plan.supersedes:
            Rotation.objects.filter(pk=running.pk).update(superseded_at=now)
            entry(Act.ROTATION_SUPERSEDED, target=key.id, data=facts(key, rotation=running.id))
        started = _record(key, plan, actor, now)
        entry(Act.ROTATION_STARTED, target=key.id, data=facts(key, **_described(started)))
    return Rotated(started, key, text)


def _itself(key: ApiKey, actor: Caller) -> rotation.Itself | None:
    if actor.presented is None or actor.presented.key.id != key.id:
        return None
    return rotation.Itself(
        version=actor.presented.version,
        may=key.may_rotate_itself,
        person_touched_at=key.person_touched_at,
        max_age_days=policy_of(key.organization_id).self_rotation_max_days,
    )


def _refuse_excess(key: ApiKey, actor: Caller) -> None:
    """Rotation hands out the secret, so the caller must hold all that it opens, from wherever it opens it."""
    bounds = actor.bounds(key.project)
    refuse_excess(
        bounds,
        scopes=key.scopes,
        risks=catalogue.risks(catalogue.load()),
        project_path=key.project.ancestors,
        mode=Mode(key.environment.mode),
    )
    grant_networks(bounds, tuple(key.allowed_ips))
    _refuse_limit(bounds, key)


def _refuse_limit(bounds: Bounds, key: ApiKey) -> None:
    """Refuse a key that was given less than this one has; what the operator gave beyond the plan bars nobody else."""
    if bounds.exceeds_plan or bounds.limit is None:
        return
    plan = terms_of(key.organization_id).rate_limit
    if not allowance(key.limit, plan).is_within(allowance(bounds.limit, plan)):
        raise ExceedsGrant("This key has a higher rate limit than you have yourself.", field="rate_limit")


def _running(key: ApiKey, now: datetime) -> Rotation | None:
    return Rotation.objects.filter(key=key, superseded_at__isnull=True, grace_ends_at__gt=now).first()


def _standing(key: ApiKey, running: Rotation | None, now: datetime) -> rotation.Standing:
    return rotation.Standing(
        secrets=[
            rotation.Secret(
                version=s.version,
                created_at=s.created_at,
                expires_at=s.expires_at,
                accepted_until=s.accepted_until,
            )
            for s in KeySecret.objects.filter(key=key)
        ],
        newest_version=key.newest_version,
        is_revoked=key.revoked_at is not None,
        is_disabled=is_disabled(without_end=key.is_disabled, until=key.disabled_until, now=now),
        running_id=running.id if running else None,
        interval_days=key.rotation_interval_days,
        rule=rule_for(policy_of(key.organization_id), Kind(key.kind)),
    )


def _succeed(key: ApiKey, plan: rotation.Plan, hint: str, actor: Caller, now: datetime) -> None:
    """Make the new version the newest, where the old one still is and the key may still be rotated."""
    changes = {"newest_version": F("newest_version") + 1, "hint": hint, "expires_at": plan.new_expires_at}
    if actor.is_person:
        changes["person_touched_at"] = now
    changed = (
        ApiKey.objects.filter(pk=key.pk, newest_version=plan.old_version, is_disabled=False)
        .not_ended(now)
        .filter(Q(disabled_until__isnull=True) | Q(disabled_until__lte=now))
        .update(**changes, updated_at=now)
    )
    if not changed:
        raise VersionConflict
    key.newest_version, key.hint, key.expires_at = plan.new_version, hint, plan.new_expires_at
    key.updated_at = now


def _retire(key: ApiKey, plan: rotation.Plan, now: datetime) -> None:
    """Set until when the old secret is accepted; every earlier one is refused from now on."""
    KeySecret.objects.filter(key=key, version=plan.old_version).update(accepted_until=plan.old_accepted_until)
    KeySecret.objects.filter(key=key, version__lt=plan.old_version, accepted_until__gt=now).update(
        accepted_until=now
    )


def _record(key: ApiKey, plan: rotation.Plan, actor: Caller, now: datetime) -> Rotation:
    return Rotation.objects.create(
        key=key,
        organization_id=key.organization_id,
        mode=plan.mode,
        old_version=plan.old_version,
        new_version=plan.new_version,
        started_at=now,
        started_by=actor.id,
        grace_ends_at=plan.old_accepted_until,
    )


def _described(started: Rotation) -> dict[str, object]:
    return {
        "rotation": started.id,
        "mode": started.mode,
        "old_version": started.old_version,
        "new_version": started.new_version,
        "old_accepted_until": started.grace_ends_at,
    }
