"""Changing an organization's rules for its keys."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from audit import ledger
from audit.acts import Act
from keys import clock, due, governance, looking
from keys.errors import Invalid
from keys.models import KeyPolicy
from keys.models.leak import LeakAction
from keys.models.notice import What
from keys.models.policy import LeaverAction
from keys.policy import ExpiryRule, check_rule, check_team
from keys.policy.expiry import MAX_DAYS
from keys.rotation import MAX_GRACE_SECONDS
from keys.secret import Kind
from keys.services.approvals import hold_requests
from keys.services.common import collect, policy_of
from keys.services.creation import hold_creation
from orgs.members import Member

# Whom the worker looks at anew when a rule is another.
_LOOKED_AT: Final = {"notice_days": What.EXPIRY, "auto_grace_seconds": What.ROTATION}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """A whole policy, as the form shows it; field names are those of `KeyPolicy`."""

    ingestion_default_days: int
    ingestion_max_days: int
    ingestion_may_never_expire: bool
    control_plane_default_days: int
    control_plane_max_days: int
    service_default_days: int
    service_max_days: int
    requires_ips_in_production: bool
    notice_days: list[int]
    auto_grace_seconds: int
    self_rotation_max_days: int
    staged_cut_off_at_deadline: bool
    leaver_action: str
    leaver_grace_seconds: int
    leaver_team: str
    leak_action: str
    approvals_required: str
    approval_max_hours: int
    approval_max_uses: int


def change_policy(change: PolicyChange, *, actor: Member) -> KeyPolicy:
    """Replace the organization's policy; keys that exist keep what they have until they are next changed.

    Writes the policy and the entry `policy.changed` with the fields that changed. Notices and automatic rotations
    follow the new rules at once: the worker looks at every key again that they concern. Whoever creates a key or asks
    for an approval meanwhile waits: none that is made later comes under the old rules.

    Raises:
        Invalid, InvalidMany: beyond the product's own bounds (field names of `PolicyChange`).
    """
    checks = [partial(_check, kind, change) for kind in Kind]
    collect(
        [
            *checks,
            partial(due.check_notice_days, change.notice_days),
            partial(_check_graces, change),
            partial(_check_rest, change),
            partial(governance.check_required, change.approvals_required),
            partial(governance.check_max_hours, change.approval_max_hours),
            partial(governance.check_max_uses, change.approval_max_uses),
        ]
    )
    with ledger.recording(actor.organization_id, actor) as entry:
        hold_creation(actor.organization_id)
        hold_requests(actor.organization_id)
        before = policy_of(actor.organization_id)
        after = {
            **asdict(change),
            "leaver_team": change.leaver_team.strip(),
            "notice_days": sorted(change.notice_days, reverse=True),
        }
        changed = {name: value for name, value in after.items() if getattr(before, name) != value}
        policy, _ = KeyPolicy.objects.update_or_create(organization_id=actor.organization_id, defaults=after)
        if changed:
            old = {name: getattr(before, name) for name in changed}
            entry(Act.POLICY_CHANGED, target=actor.organization_id, data={"before": old, "after": changed})
        for name, what in _LOOKED_AT.items():
            if name in changed:
                looking.look_again(actor.organization_id, what, clock.now())
    return policy


def _check(kind: Kind, change: PolicyChange) -> None:
    rule = ExpiryRule(
        default_days=getattr(change, f"{kind}_default_days"),
        max_days=getattr(change, f"{kind}_max_days"),
        may_never=kind is Kind.INGESTION and change.ingestion_may_never_expire,
    )
    try:
        check_rule(kind, rule)
    except Invalid as error:
        for single in error.errors:
            single.field = f"{kind}_{single.field}"
        raise


def _check_graces(change: PolicyChange) -> None:
    for name in ("auto_grace_seconds", "leaver_grace_seconds"):
        if not 1 <= getattr(change, name) <= MAX_GRACE_SECONDS:
            raise Invalid(f"1 to {MAX_GRACE_SECONDS:,} seconds.", field=name)


def _check_rest(change: PolicyChange) -> None:
    if not 1 <= change.self_rotation_max_days <= MAX_DAYS:
        raise Invalid(f"1 to {MAX_DAYS} days.", field="self_rotation_max_days")
    if change.leak_action not in LeakAction.values:
        raise Invalid("Choose one of the offered.", field="leak_action")
    if change.leaver_action not in LeaverAction.values:
        raise Invalid("Choose one of the offered.", field="leaver_action")
    if change.leaver_action in {LeaverAction.HAND_OVER, LeaverAction.ROTATE}:
        try:
            check_team(change.leaver_team)
        except Invalid as error:
            raise Invalid(error.detail, field="leaver_team") from None
