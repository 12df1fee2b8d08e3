"""Rotating a key: one guarded statement decides who is the successor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.db.models import Q

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from audit.ledger import Recorder
from keys import catalogue, clock, rotation, sealing
from keys import secret as secrets
from keys.callers import Caller
from keys.errors import ExceedsGrant, VersionConflict
from keys.models import ApiKey, KeySecret, Recipient, Rotation, RotationTarget
from keys.models.rotation import new_rotation_id
from keys.policy import Bounds, allowance, grant_networks, refuse_excess
from keys.secret import Kind, Mode
from keys.services.common import check_reach, facts, policy_of, rule_for, terms_of
from keys.services.creation import insert_secret
from keys.services.ending import locked_key, record_ends
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
    targets: Sequence[str] = (),
    quiet_seconds: int | None = None,
    deadline: datetime | None = None,
) -> Rotated:
    """Give a key a new secret; what becomes of the old one is `mode`'s (spec KEYS §5).

    Writes the new version, the rotation with its targets, the older versions' `accepted_until`, and the entry
    `rotation.started` (and `rotation.superseded` of the one that an immediate rotation ends). Of any number of
    concurrent calls exactly one succeeds: the version that was read at the start guards.

    Args:
        key: with its project and environment; the caller's access to it was checked (404).
        mode, grace_seconds, targets, quiet_seconds, deadline: see `keys.rotation.Wish`.
        version: the newest that the caller knows; None for the given key's.

    Raises:
        ExceedsGrant: another's key that holds more than the caller.
        StateForbids, SelfRotationRefused, Invalid, RotationRunning: see `keys.rotation.plan`.
        VersionConflict: another rotation was faster, or the caller knew another version.
    """
    wish = rotation.Wish(
        mode=mode,
        grace_seconds=grace_seconds,
        targets=targets,
        quiet_seconds=quiet_seconds,
        deadline=deadline,
    )
    check_reach(actor, key)
    with ledger.recording(key.organization_id, actor) as entry:
        locked = locked_key(key.pk)
        now = clock.now()
        itself = _itself(locked, actor)
        if itself is None:
            _refuse_excess(locked, actor)
        turned = _turn(
            entry,
            locked,
            wish,
            version=key.newest_version if version is None else version,
            itself=itself,
            actor=actor,
            now=now,
        )
    for name in _CHANGED:
        setattr(key, name, getattr(locked, name))
    return Rotated(turned.rotation, key, turned.secret)


def rotate_unattended(
    entry: Recorder,
    key: ApiKey,
    *,
    recipient: Recipient,
    grace_seconds: int,
    actor: Actor,
    now: datetime,
    cause: str,
) -> Rotation:
    """Give a key a new secret that nobody is there to receive: it is sealed to a recipient and kept nowhere else.

    Part of another service: it runs inside that one's `ledger.recording`, of which it takes the `entry`. Nobody's
    bounds are asked, because whoever causes it, a policy or a clock, learns nothing of the secret. Writes what
    `rotate_key` does, with `sealed_secret`, all in the one transaction; the entry names the recipient.

    Args:
        key: locked, with its project and environment.
        recipient: of the same organization, locked.
        grace_seconds: 1 to 2,592,000; never past the old secret's expiry.
        cause: why, in the entry: `interval`, `owner_left`.

    Raises:
        StateForbids, RotationRunning: see `keys.rotation.plan`.
        ValueError: the recipient is another organization's.
    """
    if recipient.organization_id != key.organization_id or recipient.removed_at is not None:
        raise ValueError("a recipient of the key's own organization is needed")
    wish = rotation.Wish(mode=rotation.Mode.GRACE, grace_seconds=grace_seconds)
    return _turn(
        entry,
        key,
        wish,
        version=key.newest_version,
        itself=None,
        actor=actor,
        now=now,
        recipient=recipient,
        cause=cause,
    ).rotation


def _turn(  # noqa: PLR0913 - each is a fact of its own, all by name
    entry: Recorder,
    key: ApiKey,
    wish: rotation.Wish,
    *,
    version: int,
    itself: rotation.Itself | None,
    actor: Actor,
    now: datetime,
    recipient: Recipient | None = None,
    cause: str = "",
) -> Rotated:
    """Rotate a locked key; that the caller may was checked."""
    record_ends(key, now)
    running = Rotation.objects.running(now).filter(key=key).first()
    plan = rotation.plan(_standing(key, running, now), wish, version=version, itself=itself, now=now)
    text = secrets.generate(settings.KEY_BRAND, Kind(key.kind), Mode(key.environment.mode))
    _succeed(key, plan, secrets.hint(text), actor, now)
    insert_secret(key, version=plan.new_version, text=text, now=now)
    if running is not None and plan.supersedes:
        _supersede(running, now)
        entry(Act.ROTATION_SUPERSEDED, target=key.id, data=facts(key, rotation=running.id))
    _retire(key, plan, now)
    started = _record(key, plan, actor, now, _sealed(text, recipient))
    told = _described(started, plan) | ({"cause": cause} if cause else {})
    entry(Act.ROTATION_STARTED, target=key.id, data=facts(key, **told))
    return Rotated(started, key, text)


def _sealed(text: str, recipient: Recipient | None) -> dict[str, Any]:
    """Return the columns of a rotation that only depend on to whom its secret goes: its id is sealed in."""
    if recipient is None:
        return {}
    id_ = new_rotation_id()
    sealed = sealing.seal(text, bytes(recipient.public_key), id_)
    return {"id": id_, "sealed_secret": sealed, "sealed_to": recipient.id}


_CHANGED: Final = ("newest_version", "hint", "expires_at", "person_touched_at", "updated_at")


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


def _standing(key: ApiKey, running: Rotation | None, now: datetime) -> rotation.Standing:
    policy = policy_of(key.organization_id)
    return rotation.Standing(
        secrets=[one.as_rule for one in KeySecret.objects.filter(key=key)],
        newest_version=key.newest_version,
        is_revoked=key.revoked_at is not None,
        is_disabled=is_disabled(without_end=key.is_disabled, until=key.disabled_until, now=now),
        running_id=running.id if running else None,
        interval_days=key.rotation_interval_days,
        rule=rule_for(policy, Kind(key.kind)),
        is_cut_off=policy.staged_cut_off_at_deadline,
    )


def _succeed(key: ApiKey, plan: rotation.Plan, hint: str, actor: Actor, now: datetime) -> None:
    """Make the new version the newest, where the old one still is and the key may still be rotated."""
    changes: dict[str, Any] = {
        "newest_version": plan.new_version,
        "hint": hint,
        "expires_at": plan.new_expires_at,
        "updated_at": now,
    }
    if isinstance(actor, Caller) and actor.is_person:
        changes["person_touched_at"] = now
    changed = (
        ApiKey.objects.filter(pk=key.pk, newest_version=plan.old_version, is_disabled=False)
        .not_ended(now)
        .filter(Q(disabled_until__isnull=True) | Q(disabled_until__lte=now))
        .update(**changes)
    )
    if not changed:
        raise VersionConflict
    for name, value in changes.items():
        setattr(key, name, value)


def _supersede(running: Rotation, now: datetime) -> None:
    if not Rotation.objects.not_ended().filter(pk=running.pk).update(superseded_at=now):
        raise VersionConflict


def _retire(key: ApiKey, plan: rotation.Plan, now: datetime) -> None:
    """Set until when the old secret is accepted; every other one is refused from now on."""
    earlier = KeySecret.objects.filter(key=key)
    earlier.filter(version=plan.old_version).update(accepted_until=plan.old_accepted_until)
    others = earlier.exclude(version__in=[plan.old_version, plan.new_version])
    others.filter(accepted_until__gt=now).update(accepted_until=now)


def _record(
    key: ApiKey, plan: rotation.Plan, actor: Actor, now: datetime, sealed: Mapping[str, Any]
) -> Rotation:
    """Write the rotation and its targets; an immediate one is completed as it begins."""
    is_immediate = plan.mode is rotation.Mode.IMMEDIATE
    stages = plan.stages
    started = Rotation.objects.create(
        key=key,
        organization_id=key.organization_id,
        mode=plan.mode,
        old_version=plan.old_version,
        new_version=plan.new_version,
        started_at=now,
        started_by=actor.id,
        grace_ends_at=plan.old_accepted_until,
        quiet_seconds=stages.quiet_seconds if stages else None,
        deadline=stages.deadline if stages else None,
        completed_at=now if is_immediate else None,
        completed_by=actor.id if is_immediate else "",
        **sealed,
    )
    RotationTarget.objects.bulk_create(
        RotationTarget(rotation=started, name=name, organization_id=key.organization_id, position=position)
        for position, name in enumerate(stages.targets if stages else ())
    )
    return started


def _described(started: Rotation, plan: rotation.Plan) -> dict[str, object]:
    """Return the facts of a rotation's beginning."""
    found: dict[str, object] = {
        "rotation": started.id,
        "mode": started.mode,
        "old_version": started.old_version,
        "new_version": started.new_version,
    }
    if started.stops_at is not None:
        found["old_accepted_until"] = started.stops_at
    if started.sealed_to:
        found["recipient"] = started.sealed_to
    if plan.stages is not None:
        found |= {
            "targets": list(plan.stages.targets),
            "quiet_seconds": plan.stages.quiet_seconds,
            "deadline": plan.stages.deadline,
        }
    return found
