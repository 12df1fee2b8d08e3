"""Ending a rotation: by hand, by what its targets did, or because its time came.

Whoever changes a rotation holds its key's row first, as a rotation and a revocation do: of a completion, a cancel, an
immediate rotation and a revocation that meet, one is first and the others find what it left.
"""

from datetime import datetime
from typing import Any

from django.db.models import F, Q

from audit import ledger
from audit.actors import WORKER, Actor
from audit.acts import Act
from audit.ledger import Recorder
from keys import clock, rotation
from keys.callers import Caller
from keys.errors import RotationEnded, SelfRotationRefused
from keys.models import ApiKey, KeySecret, Rotation
from keys.services.common import check_reach, facts


def complete_rotation(found: Rotation, *, actor: Caller) -> Rotation:
    """End a running rotation: the old secret is refused from now on.

    Writes the rotation, the old secret's `accepted_until` and the entry `rotation.completed`.

    Args:
        found: the caller's access to it was checked (404).

    Raises:
        Forbidden: the caller changes no keys at its project.
        SelfRotationRefused: the key itself, with another secret than its newest.
        RotationEnded: it is not running any more.
    """
    check_reach(actor, found.key)
    with ledger.recording(found.organization_id, actor) as entry:
        key = locked_key(found.key_id)
        check_itself(key, actor)
        finish(entry, key, found, actor=actor, now=clock.now())
    return _again(found, key)


def cancel_rotation(found: Rotation, *, actor: Caller) -> Rotation:
    """Undo a running rotation: the new secret is refused from now on, and the key goes by the old one again.

    Writes the rotation, the key (its version, hint and expiry), both secrets and the entry `rotation.cancelled`. The
    new secret's version is never used again.

    Args:
        found: the caller's access to it was checked (404).

    Raises:
        Forbidden: the caller changes no keys at its project.
        SelfRotationRefused: the key itself, with another secret than its newest.
        RotationEnded: it is not running any more.
        StateForbids: the old secret is not accepted any more.
    """
    check_reach(actor, found.key)
    with ledger.recording(found.organization_id, actor) as entry:
        key = locked_key(found.key_id)
        check_itself(key, actor)
        undo(entry, key, found, actor=actor, now=clock.now())
    return _again(found, key)


def finish(
    entry: Recorder, key: ApiKey, found: Rotation, *, actor: Actor, now: datetime, how: str = "by_hand"
) -> None:
    """Complete a rotation inside another service's recording; `key` is locked.

    Raises:
        RotationEnded: it is not running any more.
    """
    _end(found, key, now, completed_at=now, completed_by=actor.id)
    retire_old(found, now)
    entry(Act.ROTATION_COMPLETED, target=key.id, data=ended(key, found, how))


def undo(
    entry: Recorder, key: ApiKey, found: Rotation, *, actor: Actor, now: datetime, how: str = "by_hand"
) -> None:
    """Cancel a rotation inside another service's recording; `key` is locked.

    Raises:
        RotationEnded: it is not running any more.
        StateForbids: the old secret is not accepted any more.
    """
    old, new = _secrets(found)
    found.key = key
    expires_at = rotation.restored_expiry(found.course, old.as_rule, new.as_rule, now)
    _end(found, key, now, cancelled_at=now, cancelled_by=actor.id)
    _give_back(key, old, new, expires_at, now)
    entry(Act.ROTATION_CANCELLED, target=key.id, data=ended(key, found, how))


def record_ends(key: ApiKey, now: datetime) -> int:
    """Write down that a key's rotation ended when its time came, with the entry `rotation.completed`, once.

    It ended by itself: state is computed from time, and this only tells of it. Returns how many there were, 0 or 1.

    Args:
        key: locked.
    """
    if key.revoked_at is not None:
        return 0
    due = Rotation.objects.not_ended().filter(key=key, grace_ends_at__lte=now)
    told = 0
    for found in due:
        with ledger.recording(key.organization_id, WORKER) as entry:
            if due.filter(pk=found.pk).update(completed_at=F("grace_ends_at"), completed_by=WORKER.id):
                entry(Act.ROTATION_COMPLETED, target=key.id, data=ended(key, found, _why(found)))
                told += 1
    return told


def locked_key(key_id: str) -> ApiKey:
    """Read a key under its row's lock, so that nothing else changes it until the transaction ends."""
    keys = ApiKey.objects.select_related("project", "environment", "owner_user")
    return keys.select_for_update(of=("self",), no_key=True).get(pk=key_id)


def check_itself(key: ApiKey, actor: Caller) -> None:
    """Refuse the key itself with a secret that is not its newest: whoever has an old one must not undo its end.

    Raises:
        SelfRotationRefused: it is that.
    """
    presented = actor.presented
    if presented and presented.key.id == key.id and presented.version != key.newest_version:
        raise SelfRotationRefused("Only the newest secret of a key sees, completes and cancels its rotation.")


def retire_old(found: Rotation, now: datetime) -> None:
    """Refuse a rotation's old secret from now on."""
    old = KeySecret.objects.filter(key_id=found.key_id, version=found.old_version)
    old.filter(accepted_until__gt=now).update(accepted_until=now)


def ended(key: ApiKey, found: Rotation, how: str) -> dict[str, Any]:
    """Return the facts of a rotation's end."""
    return facts(
        key,
        rotation=found.id,
        mode=found.mode,
        old_version=found.old_version,
        new_version=found.new_version,
        how=how,
    )


def _end(found: Rotation, key: ApiKey, now: datetime, **columns: Any) -> None:
    """Write what ended a rotation, where nothing has yet."""
    running = Rotation.objects.not_ended().filter(pk=found.pk, grace_ends_at__gt=now)
    if key.revoked_at is not None or not running.update(**columns):
        raise RotationEnded


def _secrets(found: Rotation) -> tuple[KeySecret, KeySecret]:
    versions = [found.old_version, found.new_version]
    secrets = KeySecret.objects.filter(key_id=found.key_id, version__in=versions).order_by("version")
    old, new = secrets.defer("digest")
    return old, new


def _give_back(
    key: ApiKey, old: KeySecret, new: KeySecret, expires_at: datetime | None, now: datetime
) -> None:
    """Let the key go by its old secret, and refuse the new one. The key first: the secret's guard looks at it."""
    ApiKey.objects.filter(pk=key.pk, newest_version=new.version).update(
        newest_version=old.version, hint=old.hint, expires_at=expires_at, updated_at=now
    )
    secrets = KeySecret.objects.filter(key=key)
    secrets.filter(version=old.version).update(accepted_until=None, expires_at=expires_at)
    still = Q(accepted_until=None) | Q(accepted_until__gt=now)
    secrets.filter(still, version=new.version).update(accepted_until=now)


def _why(found: Rotation) -> str:
    if found.deadline == found.grace_ends_at:
        return "cut_off_at_deadline"
    return "grace_ended" if found.deadline is None else "old_secret_expired"


def _again(found: Rotation, key: ApiKey) -> Rotation:
    found.refresh_from_db()
    key.refresh_from_db(fields=["newest_version", "hint", "expires_at", "updated_at"])
    found.key = key
    return found
