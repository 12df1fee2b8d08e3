"""How far an actor's role reaches over other members, read again under the organization's lock.

What a request brought with it may be stale by then: somebody who was just removed must not finish what they began.
"""

from django.utils import timezone

from audit.actors import Actor
from orgs.errors import Forbidden
from orgs.members import Member
from orgs.models import Invitation, Membership
from orgs.roles import Permission, Role, may


def check(actor: Actor, organization_id: str, *, touches_owner: bool) -> None:
    """Refuse a member whose role over the whole organization does not reach that far; the operator's may everything.

    Raises:
        Forbidden: beyond the actor's standing.
    """
    if not isinstance(actor, Member):
        return
    needed = Permission.OWNERS_CHANGE if touches_owner else Permission.MEMBERS_CHANGE
    if actor.organization_id != organization_id or not _may(actor.user.id, organization_id, needed):
        raise Forbidden("Only an owner changes owners." if touches_owner else "")


def is_owner(user_id: str, organization_id: str) -> bool:
    """Return whether a person owns an organization."""
    own = Membership.objects.filter(organization_id=organization_id, user_id=user_id, role=Role.OWNER)
    return own.exists()


def withdraw_stale_invitations(user_id: str, organization_id: str) -> int:
    """Withdraw what somebody sent who may no longer invite, lest they come back by it; return how many it were."""
    if _may(user_id, organization_id, Permission.MEMBERS_CHANGE):
        return 0
    waiting = Invitation.objects.filter(
        organization_id=organization_id,
        invited_by_id=user_id,
        accepted_at__isnull=True,
        withdrawn_at__isnull=True,
    )
    return waiting.update(withdrawn_at=timezone.now())


def _may(user_id: str, organization_id: str, permission: Permission) -> bool:
    own = Membership.objects.filter(
        organization_id=organization_id, user_id=user_id, user__is_active=True, project__isnull=True
    ).first()
    return own is not None and may(Role(own.role), permission)
