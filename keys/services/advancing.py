"""What the worker does for a running rotation: tell which targets moved, end it when all have, report it overdue."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import connection

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from audit.ledger import Recorder
from keys import clock, progress
from keys.models import ApiKey, Rotation, RotationTarget
from keys.models.key import Status
from keys.models.rotation import RotationMode
from keys.progress import Place, Progress
from keys.services.common import facts
from keys.services.ending import ended, locked_key, record_ends, retire_old
from orgs.models import Organization

# The rule is `keys.rotation.Watch.is_complete`; stated again, so that what was seen since it was asked counts.
_COMPLETE: Final = """
UPDATE keys_rotation r SET completed_at = %(now)s, completed_by = %(by)s
  FROM keys_apikey k
 WHERE r.id = %(id)s AND k.id = r.key_id AND r.mode = 'staged' AND r.grace_ends_at > %(now)s
   AND r.completed_at IS NULL AND r.cancelled_at IS NULL AND r.superseded_at IS NULL AND k.revoked_at IS NULL
   AND greatest(r.started_at, r.held_at, k.disabled_until) <= %(now)s - make_interval(secs => r.quiet_seconds)
   AND NOT EXISTS (SELECT FROM keys_secretuse u WHERE u.key_id = r.key_id AND u.version = r.old_version
           AND u.last_used_at > %(now)s - make_interval(secs => r.quiet_seconds))
   AND EXISTS (SELECT FROM keys_rotationtarget t WHERE t.rotation_id = r.id)
RETURNING r.id
"""


def advance_rotation(rotation_id: str, *, actor: Actor) -> int:
    """Write down what has become of a rotation, each thing once however often and by how many it is called.

    Writes the targets that moved (`rotation.target_moved` each), and its end: because all of them did and the old
    secret is quiet everywhere, or because its time came (`rotation.completed`). Else, after its deadline,
    `rotation.overdue`. One transaction: all of it or nothing. A key that can't be used, because it or its organization
    is stopped, stays as it is.

    Args:
        rotation_id: the transaction sees its organization.
        actor: the product's own part.

    Returns:
        How many entries it wrote.
    """
    found = Rotation.objects.get(pk=rotation_id)
    with ledger.recording(found.organization_id, actor) as entry:
        key = locked_key(found.key_id)
        now = clock.now()
        told = record_ends(key, now)
        running = Rotation.objects.running(now).select_related("key").filter(pk=rotation_id).first()
        if told or running is None or running.mode != RotationMode.STAGED or not _is_usable(key, now):
            return told
        reached = progress.of(running, now)
        told = _tell_moved(entry, key, reached)
        if reached.is_complete and _complete(running, actor, now):
            retire_old(running, now)
            entry(Act.ROTATION_COMPLETED, target=key.id, data=ended(key, running, "all_moved"))
            return told + 1
        return told + _tell_overdue(entry, key, reached)


def due_rotations(found: Sequence[Rotation], now: datetime) -> list[Rotation]:
    """Return those of some rotations, read with their keys, for which there is something to write down."""
    running = [one for one in found if one.is_running(now) and one.mode == RotationMode.STAGED]
    reached = progress.of_many(running, now)
    return [one for one in found if one.id not in reached or _has_news(reached[one.id])]


def _has_news(reached: Progress) -> bool:
    one = reached.rotation
    is_late = one.overdue_at is None and one.is_overdue(reached.as_of)
    return is_late or reached.is_complete or any(target.moved_at is None for target in reached.moved)


def _is_usable(key: ApiKey, now: datetime) -> bool:
    organization = Organization.objects.get(pk=key.organization_id)
    return key.status(now) is Status.ACTIVE and organization.suspended_at is None


def _tell_moved(entry: Recorder, key: ApiKey, reached: Progress) -> int:
    fresh = [target for target in reached.moved if target.moved_at is None]
    return sum(_tell_one(entry, key, reached, target) for target in fresh)


def _tell_one(entry: Recorder, key: ApiKey, reached: Progress, target: Place) -> bool:
    one = RotationTarget.objects.filter(rotation=reached.rotation, name=target.name, moved_at=None)
    if not one.update(moved_at=reached.as_of):
        return False
    left = sum(1 for other in reached.targets if other not in reached.moved)
    data = facts(key, rotation=reached.rotation.id, moved=target.name, left=left)
    entry(Act.ROTATION_TARGET_MOVED, target=key.id, data=data)
    return True


def _complete(running: Rotation, actor: Actor, now: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_COMPLETE, {"id": running.id, "now": now, "by": actor.id})
        return cursor.fetchone() is not None


def _tell_overdue(entry: Recorder, key: ApiKey, reached: Progress) -> int:
    one = reached.rotation
    if not one.is_overdue(reached.as_of):
        return 0
    changed = Rotation.objects.not_ended().filter(pk=one.pk, overdue_at=None).update(overdue_at=reached.as_of)
    if changed:
        left = [target.name for target in reached.targets if target not in reached.moved]
        data = facts(key, rotation=one.id, deadline=one.deadline, left=left)
        entry(Act.ROTATION_OVERDUE, target=key.id, data=data)
    return changed
