"""An owner by the operator's hand: for an organization that has none who could invite one."""

from audit.actors import Actor
from audit.acts import Act
from orgs.errors import AlreadyMember, Forbidden
from orgs.members import Member
from orgs.models import Membership, Organization, User
from orgs.roles import Role
from orgs.services.common import lock, recording, refusing
from orgs.services.membership import change_role


def appoint_owner(organization: Organization, user: User, *, actor: Actor) -> Membership:
    """Make somebody an owner without an invitation and record `member.joined`, or `member.role_changed`.

    Args:
        organization: the operator's own, or one that its owners have left.
        user: with an account; a role that they have over the whole organization becomes `owner`.
        actor: the operator's, never a member: members invite.

    Raises:
        AlreadyMember: they own it.
        Forbidden: a member asks.
        Gone: the organization is no more.
    """
    if isinstance(actor, Member):
        raise Forbidden
    with refusing(AlreadyMember), recording(organization.id, actor) as entry:
        lock(organization.id)
        found = Membership.objects.filter(organization=organization, user=user, project=None).first()
        if found is None:
            found = Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
            facts = {"user": user.id, "role": str(Role.OWNER), "project": None}
            sealed = {"member_email": user.email, "member_name": user.name}
            entry(Act.MEMBER_JOINED, target=found.id, data=facts, sealed=sealed)
        elif not change_role(found, Role.OWNER, actor=actor):
            raise AlreadyMember("They own it already.", field="owner")
    return found
