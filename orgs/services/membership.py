"""Who belongs to an organization, and as what.

An organization's row is locked while its members change, so that two owners who end each other at once meet one
after the other; and the actor's own standing is read again under that lock, so that somebody who was just removed
does not finish what they began.
"""

from collections.abc import Sequence

from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.actors import Actor
from audit.acts import Act
from orgs import members, ports, sessions
from orgs.errors import Gone, Invalid, LastOwner
from orgs.models import Membership, User
from orgs.roles import Role
from orgs.services import standing
from orgs.services.common import lock, recording


def change_role(membership: Membership, role: Role, *, actor: Actor) -> bool:
    """Give a membership another role and record `member.role_changed`.

    Invitations that the person sent are withdrawn where they may no longer invite.

    Args:
        membership: at the organization or a project.
        role: `owner` only at the organization.
        actor: a `Member` needs the standing for it: admins change all but owners, and only owners make owners.
            Any other actor is the operator.

    Returns:
        Whether the role was another.

    Raises:
        Invalid: an owner of a project (field `role`).
        Forbidden: beyond the actor's standing.
        LastOwner: nobody would own the organization.
        Gone: the membership ended in the meantime.
    """
    with recording(membership.organization_id, actor) as entry:
        found = _locked(membership)
        touches_owner = role is Role.OWNER or standing.is_owner(found.user_id, found.organization_id)
        standing.check(actor, found.organization_id, touches_owner=touches_owner)
        if role is Role.OWNER and found.project_id:
            raise Invalid("An owner owns the whole organization.", field="role")
        if found.role == role:
            return False
        if not _not_the_last_owner(found).update(role=role):
            raise LastOwner(field="role")
        withdrawn = standing.withdraw_stale_invitations(found.user_id, found.organization_id)
        changes = {"before": {"role": found.role}, "after": {"role": str(role)}}
        facts = changes | {
            "user": found.user_id,
            "project": found.project_id,
            "invitations_withdrawn": withdrawn,
        }
        entry(Act.MEMBER_ROLE_CHANGED, target=found.id, data=facts, sealed=_sealed(found.user))
    return True


def remove_member(membership: Membership, *, actor: Actor, entirely: bool = False) -> bool:
    """End a membership and record `member.removed`.

    Whoever has none left in the organization loses their sessions at once, the invitations they sent are withdrawn,
    and `orgs.ports.on_member_leaving` settles their keys; the entry says how.

    Args:
        membership: at the organization or a project.
        actor: as for `change_role`; nobody needs a standing to end their own.
        entirely: end every membership of this person in the organization.

    Returns:
        Whether the person has left the organization.

    Raises:
        Forbidden, LastOwner, Gone: as `change_role`.
    """
    with recording(membership.organization_id, actor) as entry:
        found = _locked(membership)
        if actor.id != found.user_id:
            owns = standing.is_owner(found.user_id, found.organization_id)
            standing.check(actor, found.organization_id, touches_owner=owns)
        all_of_them = Membership.objects.filter(organization_id=found.organization_id, user_id=found.user_id)
        ended = all_of_them if entirely else all_of_them.filter(pk=found.pk)
        ending = list(ended.select_related("project"))
        for each in ending:
            if not _not_the_last_owner(each).delete()[0]:
                raise LastOwner
        has_left = not all_of_them.exists()
        facts = _settle(found, ending, actor=actor) if has_left else {}
        for each in ending:
            data = {"user": each.user_id, "role": each.role, "project": each.project_id, "has_left": has_left}
            entry(Act.MEMBER_REMOVED, target=each.id, data=data | facts, sealed=_sealed(found.user))
    return has_left


def _settle(found: Membership, ended: Sequence[Membership], *, actor: Actor) -> dict[str, object]:
    """Settle what somebody leaves behind whose last memberships ended, and return what the entry says of it."""
    grants = members.grants(ended)
    facts: dict[str, object] = {
        "sessions_ended": sessions.end_all(found.user_id),
        "invitations_withdrawn": standing.withdraw_stale_invitations(found.user_id, found.organization_id),
    }
    for settle in ports.on_member_leaving:
        facts |= settle(found.organization_id, found.user_id, grants=grants, actor=actor)
    return facts


def _locked(membership: Membership) -> Membership:
    """Lock the organization and return the membership as it is under that lock."""
    lock(membership.organization_id)
    found = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if found is None:
        raise Gone
    return found


def _not_the_last_owner(membership: Membership) -> QuerySet[Membership]:
    """Return the row, unless it makes its person the only owner who can sign in."""
    others = Membership.objects.filter(
        organization_id=OuterRef("organization_id"), role=Role.OWNER, user__is_active=True
    ).exclude(user_id=OuterRef("user_id"))
    return Membership.objects.filter(Q(pk=membership.pk) & (~Q(role=Role.OWNER) | Exists(others)))


def _sealed(user: User) -> dict[str, str]:
    return {"member_email": user.email, "member_name": user.name}
