"""What keys answer to organizations: what becomes of a leaver's keys, and which keys stand in the way.

Registered in `orgs.ports` by `KeysConfig.ready`; each runs inside the caller's transaction.
"""

from keys import clock
from keys.models import ApiKey, KeyPolicy
from keys.models.policy import LeaverAction
from keys.services import settle_keys_of_leaver
from keys.services.common import policy_of
from keys.services.recipients import lapsing_with, newest_recipient
from orgs import ports
from orgs.models import Environment, Project


def register() -> None:
    """Fill the ports that keys answer."""
    ports.on_member_leaving.append(settle_keys_of_leaver)
    ports.tell_member_leaving.append(tell_leaving)
    ports.on_archiving.append(working_keys_at)


def tell_leaving(organization_id: str, user_id: str) -> str:
    """Return what becomes of a leaver's keys and of the recipient keys that they vouch for; "" where there are none."""
    told = (_tell_of_keys(organization_id, user_id), _tell_of_recipients(organization_id, user_id))
    return " ".join(sentence for sentence in told if sentence)


def _tell_of_recipients(organization_id: str, user_id: str) -> str:
    names = [recipient.name for recipient in lapsing_with(organization_id, user_id)]
    if not names:
        return ""
    subject, them = ("the recipient key", "it") if len(names) == 1 else ("the recipient keys", "them")
    return (
        f"They vouch for {subject} {', '.join(names)}: nothing more is sealed to {them} until another owner or admin "
        f"confirms {them}."
    )


def _tell_of_keys(organization_id: str, user_id: str) -> str:
    keys = ApiKey.objects.of(organization_id).not_ended(clock.now()).filter(owner_user_id=user_id)
    count = keys.count()
    if not count:
        return ""
    policy = policy_of(organization_id)
    subject, verb = ("Their key", "is") if count == 1 else (f"Their {count} keys", "are")
    match LeaverAction(policy.leaver_action):
        case LeaverAction.DISABLE:
            return f"{subject} {verb} disabled."
        case LeaverAction.REVOKE:
            return f"{subject} {verb} revoked, for good."
        case LeaverAction.HAND_OVER:
            return f"{subject} {verb} handed to {policy.leaver_team}."
        case LeaverAction.ROTATE:
            handed = f"{subject} {verb} handed to {policy.leaver_team}"
            return _tell_rotating(handed, count, policy, user_id)


def _tell_rotating(handed: str, count: int, policy: KeyPolicy, leaver: str) -> str:
    after = f"{policy.leaver_grace_seconds // 3_600:,} hours"
    recipient = newest_recipient(policy.organization_id, but_by=leaver)
    gets, ends = ("gets", "ends") if count == 1 else ("get", "end")
    if recipient is None:
        return (
            f"{handed}, and {ends} after {after}: somebody must rotate {'it' if count == 1 else 'them'} and renew the "
            "expiry before then. No recipient key is registered that new secrets could be sealed to."
        )
    return (
        f"{handed}, and {gets} a new secret, sealed to {recipient.name}; the old one works on for {after}. What can't "
        f"be rotated, because it is disabled or another rotation runs, ends after that time."
    )


def working_keys_at(place: Project | Environment) -> int:
    """Return how many keys of an environment, or of a project and all below it, have not ended."""
    keys = ApiKey.objects.of(place.organization_id).not_ended(clock.now())
    if isinstance(place, Environment):
        return keys.filter(environment=place).count()
    return keys.filter(project__path__startswith=place.path).count()
