"""Changing an organization's rules for its keys."""

from dataclasses import asdict, dataclass
from functools import partial

from audit import ledger
from audit.acts import Act
from keys.errors import Invalid
from keys.models import KeyPolicy
from keys.models.leak import LeakAction
from keys.models.policy import LeaverAction
from keys.policy import ExpiryRule, check_rule, check_team
from keys.policy.expiry import MAX_DAYS
from keys.secret import Kind
from keys.services.common import collect, policy_of
from orgs.members import Member


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
    self_rotation_max_days: int
    staged_cut_off_at_deadline: bool
    leaver_action: str
    leaver_team: str
    leak_action: str


def change_policy(change: PolicyChange, *, actor: Member) -> KeyPolicy:
    """Replace the organization's policy; keys that exist keep what they have until they are next changed.

    Writes the policy and the entry `policy.changed` with the fields that changed.

    Raises:
        Invalid, InvalidMany: beyond the product's own bounds (field names of `PolicyChange`).
    """
    collect([*[partial(_check, kind, change) for kind in Kind], partial(_check_rest, change)])
    with ledger.recording(actor.organization_id, actor) as entry:
        before = policy_of(actor.organization_id)
        after = {**asdict(change), "leaver_team": change.leaver_team.strip()}
        changed = {name: value for name, value in after.items() if getattr(before, name) != value}
        policy, _ = KeyPolicy.objects.update_or_create(organization_id=actor.organization_id, defaults=after)
        if changed:
            old = {name: getattr(before, name) for name in changed}
            entry(Act.POLICY_CHANGED, target=actor.organization_id, data={"before": old, "after": changed})
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


def _check_rest(change: PolicyChange) -> None:
    if not 1 <= change.self_rotation_max_days <= MAX_DAYS:
        raise Invalid(f"1 to {MAX_DAYS} days.", field="self_rotation_max_days")
    if change.leak_action not in LeakAction.values:
        raise Invalid("Choose one of the offered.", field="leak_action")
    if change.leaver_action not in LeaverAction.values:
        raise Invalid("Choose one of the offered.", field="leaver_action")
    if change.leaver_action == LeaverAction.HAND_OVER:
        try:
            check_team(change.leaver_team)
        except Invalid as error:
            raise Invalid(error.detail, field="leaver_team") from None
