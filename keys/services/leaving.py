"""What happens to the keys of somebody who leaves an organization (spec PEOPLE, Roles)."""

from typing import Any

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from keys import clock
from keys.models import ApiKey, OwnerType
from keys.models.key import RevocationReason
from keys.models.policy import LeaverAction
from keys.services.common import facts, policy_of

_ENTRIES = {
    LeaverAction.DISABLE: (Act.KEY_DISABLED, {"cause": "owner_left"}),
    LeaverAction.REVOKE: (Act.KEY_REVOKED, {"reason": RevocationReason.OWNER_LEFT.value}),
    LeaverAction.HAND_OVER: (Act.KEY_CHANGED, {"cause": "owner_left"}),
}


def settle_keys_of_leaver(organization_id: str, user_id: str, *, actor: Actor) -> dict[str, Any]:
    """Do with the leaver's keys what the organization's policy says, in the transaction that removes them.

    Writes each key that has not ended, and an entry for each. Subscribed to `orgs.ports.on_member_leaving`.

    Returns:
        What the removal's entry says of it: `keys_action` and `keys_count`.
    """
    policy = policy_of(organization_id)
    action = LeaverAction(policy.leaver_action)
    with ledger.recording(organization_id, actor) as entry:
        now = clock.now()
        owned = ApiKey.objects.of(organization_id).not_ended(now).filter(owner_user_id=user_id)
        keys = list(owned.select_for_update().order_by("id"))
        ApiKey.objects.filter(pk__in=[key.pk for key in keys]).update(
            **_columns(action, policy.leaver_team, actor, now), updated_at=now
        )
        act, data = _ENTRIES[action]
        for key in keys:
            entry(act, target=key.id, data=facts(key, **data))
    return {"keys_action": action.value, "keys_count": len(keys)}


def _columns(action: LeaverAction, team: str, actor: Actor, now: Any) -> dict[str, Any]:
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
        case LeaverAction.HAND_OVER:
            return {"owner_type": OwnerType.TEAM, "owner_user": None, "owner_team": team}
