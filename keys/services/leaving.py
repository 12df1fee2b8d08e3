"""What happens to the keys of somebody who leaves an organization (spec PEOPLE, Roles)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F, Q
from django.db.models.functions import Least

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from audit.ledger import Recorder
from keys import catalogue, clock
from keys.errors import KeysError
from keys.models import ApiKey, KeyPolicy, KeySecret, OwnerType, Recipient
from keys.models.key import RevocationReason
from keys.models.policy import LeaverAction
from keys.scopes import usable
from keys.services.common import facts, policy_of
from keys.services.recipients import newest_recipient
from keys.services.rotating import rotate_unattended
from orgs.members import Grant, role_at
from orgs.roles import ceiling

_ENTRIES = {
    LeaverAction.DISABLE: (Act.KEY_DISABLED, {"cause": "owner_left"}),
    LeaverAction.REVOKE: (Act.KEY_REVOKED, {"reason": RevocationReason.OWNER_LEFT.value}),
    LeaverAction.HAND_OVER: (Act.KEY_CHANGED, {"cause": "owner_left"}),
    LeaverAction.ROTATE: (Act.KEY_CHANGED, {"cause": "owner_left"}),
}


def settle_keys_of_leaver(
    organization_id: str, user_id: str, *, grants: Sequence[Grant], actor: Actor
) -> dict[str, Any]:
    """Do with the leaver's keys what the organization's policy says, in the transaction that removes them.

    Writes each key that has not ended, and an entry for each. Subscribed to `orgs.ports.on_member_leaving`.

    A team's key is bound by no role, and nobody looked at it: so a key that is handed to one can do no more than it
    could before. What the leaver's role did not let it do is taken from it (`key.scopes_changed`); a key that could do
    nothing is disabled, until somebody who may grant its scopes enables it.

    To rotate, each is handed to the policy's team in the same transaction, or it would work no more: a member without
    a role has an empty ceiling. Nothing is sealed to a recipient that the leaver alone vouched for. A key that can't be
    rotated unattended, because nobody could receive its secret or another rotation runs, ends after the grace instead,
    and its notices tell of that.

    Args:
        organization_id: whom they leave.
        user_id: who leaves.
        grants: the roles that they had until now.
        actor: who removes them.

    Returns:
        What the removal's entry says of it: `keys_action` and `keys_count`; to hand over, `keys_narrowed` of them; to
        rotate, `keys_ending` of them.
    """
    policy = policy_of(organization_id)
    action = LeaverAction(policy.leaver_action)
    with ledger.recording(organization_id, actor) as entry:
        now = clock.now()
        owned = ApiKey.objects.of(organization_id).not_ended(now).filter(owner_user_id=user_id)
        keys = list(
            owned.select_for_update(of=("self",)).select_related("project", "environment").order_by("id")
        )
        told: dict[str, Any] = {"keys_action": action.value, "keys_count": len(keys)}
        if action in {LeaverAction.HAND_OVER, LeaverAction.ROTATE}:
            told["keys_narrowed"] = _narrow(entry, keys, grants)
        ApiKey.objects.filter(pk__in=[key.pk for key in keys]).update(
            **_columns(action, policy.leaver_team, actor, now), updated_at=now
        )
        act, data = _ENTRIES[action]
        for key in keys:
            entry(act, target=key.id, data=facts(key, **data))
        if action is LeaverAction.ROTATE:
            told["keys_ending"] = _rotate(keys, user_id, policy, actor, now)
    return told


def _narrow(entry: Recorder, keys: Sequence[ApiKey], grants: Sequence[Grant]) -> int:
    """Leave each key what its owner's role let it do (spec KEYS §4); return how many carried more than that."""
    risks = catalogue.risks(catalogue.load())
    narrowed = 0
    for key in keys:
        left = usable(key.scopes, risks, ceiling(role_at(grants, key.project)))
        if set(left) == set(key.scopes):
            continue
        narrowed += 1
        if left:
            _set_scopes(entry, key, left)
        elif not key.is_disabled:
            _disable(entry, key)
    return narrowed


def _set_scopes(entry: Recorder, key: ApiKey, scopes: list[str]) -> None:
    changes = {"before": {"scopes": key.scopes}, "after": {"scopes": scopes}}
    ApiKey.objects.filter(pk=key.pk).update(scopes=scopes)
    key.scopes = scopes
    entry(Act.KEY_SCOPES_CHANGED, target=key.id, data=facts(key, **changes, cause="owner_left"))


def _disable(entry: Recorder, key: ApiKey) -> None:
    ApiKey.objects.filter(pk=key.pk).update(is_disabled=True)
    key.is_disabled = True
    entry(Act.KEY_DISABLED, target=key.id, data=facts(key, cause="owner_left"))


def _columns(action: LeaverAction, team: str, actor: Actor, now: datetime) -> dict[str, Any]:
    match action:
        case LeaverAction.DISABLE:
            return {"is_disabled": True}
        case LeaverAction.REVOKE:
            return {
                "revoked_at": now,
                "revoked_by": actor.id,
                "revocation_reason": RevocationReason.OWNER_LEFT,
                "ended_at": now,
            }
        case LeaverAction.HAND_OVER | LeaverAction.ROTATE:
            return {"owner_type": OwnerType.TEAM, "owner_user": None, "owner_team": team}


def _rotate(keys: Sequence[ApiKey], leaver: str, policy: KeyPolicy, actor: Actor, now: datetime) -> int:
    """Give each key a new secret, sealed; those that can't have one end. Return how many end."""
    recipient = newest_recipient(policy.organization_id, is_locked=True, but_by=leaver) if keys else None
    left = [key for key in keys if recipient is None or not _rotated(key, recipient, policy, actor, now)]
    _end(left, policy, now)
    return len(left)


def _rotated(key: ApiKey, recipient: Recipient, policy: KeyPolicy, actor: Actor, now: datetime) -> bool:
    """Rotate under a savepoint; a refusal leaves the key as it was."""
    try:
        with ledger.recording(key.organization_id, actor) as entry:
            rotate_unattended(
                entry,
                key,
                recipient=recipient,
                grace_seconds=policy.leaver_grace_seconds,
                actor=actor,
                now=now,
                cause="owner_left",
            )
    except KeysError:
        return False
    return True


def _end(keys: Sequence[ApiKey], policy: KeyPolicy, now: datetime) -> None:
    """Let every secret that the leaver may know end after the grace, where it does not end sooner anyway."""
    end = now + timedelta(seconds=policy.leaver_grace_seconds)
    ids = [key.pk for key in keys]
    ApiKey.objects.filter(pk__in=ids).update(expires_at=Least(F("expires_at"), end))
    secrets = KeySecret.objects.filter(key_id__in=ids)
    secrets.filter(accepted_until__gt=end).update(accepted_until=end)
    newest = secrets.filter(version=F("key__newest_version"))
    newest.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=end)).update(expires_at=end)
