"""Asking people in by a link, and their joining."""

from dataclasses import dataclass, field

from django.utils import timezone

from audit import ledger, tenancy
from audit.actors import Actor
from audit.acts import Act
from orgs import invitations
from orgs.errors import AlreadyInvited, AlreadyMember, Invalid, InvitationDead, WrongPerson
from orgs.members import Member
from orgs.models import Invitation, Membership, Project, User
from orgs.roles import Role
from orgs.services import standing
from orgs.services.common import lock, recording, refusing
from orgs.services.people import create_user


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, and the token of its link: secret, and never to be had again."""

    invitation: Invitation
    token: str = field(repr=False)


def invite_member(email: str, role: Role, *, actor: Member, project: Project | None = None) -> Invited:
    """Make a link by which one person may join the actor's organization, and record `member.invited`.

    Args:
        email: who may take it up; personal, so sealed in the ledger.
        role: `owner` only by an owner, and only of the whole organization.
        actor: an owner or admin of the organization.
        project: where the role holds; None for the whole organization.

    Returns:
        The invitation, valid for 7 days, and the token, of which only the digest is kept.

    Raises:
        Forbidden: beyond the actor's standing.
        Invalid: an owner of a project (field `role`).
        AlreadyMember, AlreadyInvited: the person is in, or asked in, there (field `email`).
    """
    address, token = email.strip().lower(), invitations.new_token()
    if role is Role.OWNER and project is not None:
        raise Invalid("An owner owns the whole organization.", field="role")
    with recording(actor.organization_id, actor) as entry:
        lock(actor.organization_id)
        standing.check(actor, actor.organization_id, touches_owner=role is Role.OWNER)
        _refuse_doubles(actor.organization_id, address, project)
        made = Invitation.objects.create(
            organization_id=actor.organization_id,
            email=address,
            project=project,
            role=role,
            digest=invitations.digest(token),
            invited_by=actor.user,
            expires_at=timezone.now() + invitations.VALID_FOR,
        )
        facts = {"role": str(role), "project": made.project_id, "expires_at": made.expires_at}
        entry(Act.MEMBER_INVITED, target=made.id, data=facts, sealed={"member_email": address})
    return Invited(made, token)


def withdraw_invitation(invitation: Invitation, *, actor: Actor) -> bool:
    """Make an invitation's link useless and record `member.invitation_withdrawn`.

    Returns:
        Whether this call did it.

    Raises:
        Forbidden: beyond the actor's standing; only owners withdraw what makes an owner.
    """
    with recording(invitation.organization_id, actor) as entry:
        lock(invitation.organization_id)
        standing.check(actor, invitation.organization_id, touches_owner=invitation.role == Role.OWNER)
        waiting = Invitation.objects.filter(
            pk=invitation.pk, accepted_at__isnull=True, withdrawn_at__isnull=True
        )
        changed = waiting.update(withdrawn_at=timezone.now())
        if changed:
            sealed = {"member_email": invitation.email}
            entry(Act.MEMBER_INVITATION_WITHDRAWN, target=invitation.id, sealed=sealed)
    return bool(changed)


def accept_invitation(token_digest: bytes, user: User, *, actor: Actor) -> Membership:
    """Let the invited person join with the account they are signed in to, and record `member.joined`.

    Args:
        token_digest: SHA-256 of the link's token.
        user: whose e-mail address must be the invited one.
        actor: that person.

    Raises:
        InvitationDead: used, withdrawn, expired, or for a project that is archived.
        WrongPerson: another address, or an account that may not sign in.
        AlreadyMember: they have a role there.
    """
    found = _open(token_digest)
    if not user.is_active or user.email != found.email:
        raise WrongPerson
    with refusing(AlreadyMember), recording(found.organization_id, actor) as entry:
        return _join(found, user, entry)


def join_with_new_account(token_digest: bytes, *, actor: Actor, name: str, password: str) -> Membership:
    """Make the invited person's account and let them join, both or neither; record `user.created` and `member.joined`.

    Args:
        token_digest: SHA-256 of the link's token.
        actor: the new person: `actor.id` becomes the account's id.
        name: what people call them.
        password: checked by the form.

    Raises:
        InvitationDead: as `accept_invitation`.
        Taken: the address has an account, whose owner must sign in instead (field `email`).
    """
    found = _open(token_digest)
    with (
        tenancy.everywhere(tenancy.Reason.INVITATION),
        ledger.recording(found.organization_id, actor) as entry,
    ):
        user = create_user(found.email, actor=actor, name=name, password=password, user_id=actor.id)
        return _join(found, user, entry)


def _open(token_digest: bytes) -> Invitation:
    found = invitations.find_open(token_digest)
    if found is None:
        raise InvitationDead
    return found


def _join(invitation: Invitation, user: User, entry: ledger.Recorder) -> Membership:
    """Use the invitation up, once, and make the membership."""
    lock(invitation.organization_id)
    now = timezone.now()
    waiting = Invitation.objects.filter(
        pk=invitation.pk, accepted_at__isnull=True, withdrawn_at__isnull=True, expires_at__gt=now
    )
    if not waiting.update(accepted_at=now) or _is_archived(invitation):
        raise InvitationDead
    membership = Membership.objects.create(
        organization_id=invitation.organization_id,
        user=user,
        project_id=invitation.project_id,
        role=invitation.role,
    )
    facts = {
        "user": user.id,
        "role": invitation.role,
        "project": invitation.project_id,
        "invitation": invitation.id,
        "invited_by": invitation.invited_by_id,
    }
    sealed = {"member_email": user.email, "member_name": user.name}
    entry(Act.MEMBER_JOINED, target=membership.id, data=facts, sealed=sealed)
    return membership


def _is_archived(invitation: Invitation) -> bool:
    return Project.objects.filter(pk=invitation.project_id, archived_at__isnull=False).exists()


def _refuse_doubles(organization_id: str, email: str, project: Project | None) -> None:
    here = {"organization_id": organization_id, "project": project}
    if Membership.objects.filter(user__email=email, **here).exists():
        raise AlreadyMember(field="email")
    waiting = Invitation.objects.filter(
        email=email,
        accepted_at__isnull=True,
        withdrawn_at__isnull=True,
        expires_at__gt=timezone.now(),
        **here,
    )
    if waiting.exists():
        raise AlreadyInvited(field="email")
