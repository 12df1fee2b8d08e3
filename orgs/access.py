"""The only door to an organization's own objects.

What a member does not see is `Http404`, for strangers and unknown ids alike; what they see and may not change is
`PermissionDenied`.
"""

from django.core.exceptions import PermissionDenied
from django.http import Http404

from orgs.members import Member
from orgs.models import Environment, Invitation, Membership, Project, User
from orgs.roles import Permission, Role


def require(member: Member, permission: Permission, project: Project | None = None) -> None:
    """Raise `PermissionDenied` unless a role at `project`, or over the whole organization, allows something."""
    if not member.may(permission, project):
        raise PermissionDenied


def projects(member: Member, *, permission: Permission = Permission.KEYS_VIEW) -> list[Project]:
    """Return the unarchived projects at which the member may do something, in tree order."""
    everything = Project.objects.of(member.organization_id).filter(archived_at__isnull=True).in_tree_order()
    return [project for project in everything if member.may(permission, project)]


def project(member: Member, project_id: str, *, permission: Permission = Permission.KEYS_VIEW) -> Project:
    """Return one project at which the member may do something; raises `Http404`."""
    found = Project.objects.of(member.organization_id).filter(pk=project_id, archived_at__isnull=True).first()
    if found is None or not member.may(permission, found):
        raise Http404
    return found


def project_to_extend(member: Member, project_id: str) -> Project:
    """Return a project below which the member may make another; raises `Http404`, `PermissionDenied`."""
    found = project(member, project_id)
    require(member, Permission.ORGANIZATION_CONFIGURE, found)
    return found


def project_for_change(member: Member, project_id: str) -> Project:
    """Return a project that the member may rename, narrow or archive; raises `Http404`, `PermissionDenied`.

    That takes a role above it: whoever is admin of one project alone does not lift the bounds that it was given.
    """
    found = project(member, project_id)
    require(member, Permission.ORGANIZATION_CONFIGURE, found.parent)
    return found


def environments(member: Member) -> list[Environment]:
    """Return the organization's environments that are in use, production first."""
    return list(Environment.objects.filter(organization_id=member.organization_id, archived_at__isnull=True))


def environment(member: Member, environment_id: str) -> Environment:
    """Return one environment of the organization; raises `Http404`."""
    found = Environment.objects.filter(organization_id=member.organization_id, pk=environment_id).first()
    if found is None:
        raise Http404
    return found


def environment_for_change(member: Member, environment_id: str) -> Environment:
    """Return an environment in use that the member may change; raises `Http404`, `PermissionDenied`."""
    found = environment(member, environment_id)
    if found.archived_at is not None:
        raise Http404
    require(member, Permission.ORGANIZATION_CONFIGURE)
    return found


def memberships(member: Member) -> list[Membership]:
    """Return the organization's memberships by name; raises `Http404` unless the member belongs to all of it."""
    if member.organization_role is None:
        raise Http404
    found = Membership.objects.filter(organization_id=member.organization_id).select_related(
        "user", "project"
    )
    return list(found.order_by("user__name", "user__email", "project__label_path"))


def membership_for_change(member: Member, membership_id: str) -> Membership:
    """Return one membership that the member may change or end; raises `Http404`, `PermissionDenied`."""
    found = (
        Membership.objects.filter(organization_id=member.organization_id, pk=membership_id)
        .select_related("user", "project")
        .first()
    )
    if found is None or member.organization_role is None:
        raise Http404
    require(member, Permission.MEMBERS_CHANGE)
    owns = Membership.objects.filter(
        organization_id=member.organization_id, user_id=found.user_id, role=Role.OWNER
    )
    if owns.exists():
        require(member, Permission.OWNERS_CHANGE)
    return found


def other_memberships(membership: Membership) -> list[Membership]:
    """Return what else the person of a membership is in the same organization."""
    theirs = Membership.objects.filter(organization_id=membership.organization_id, user_id=membership.user_id)
    return list(theirs.exclude(pk=membership.pk).select_related("project"))


def has_account(email: str) -> bool:
    """Return whether an address has an account; asked only for the address of an open invitation's link."""
    return User.objects.filter(email=email).exists()


def open_invitations(member: Member) -> list[Invitation]:
    """Return the invitations that nobody has taken up or withdrawn, newest first."""
    return list(
        Invitation.objects.filter(
            organization_id=member.organization_id, accepted_at__isnull=True, withdrawn_at__isnull=True
        )
        .select_related("invited_by", "project")
        .order_by("-created_at")
    )


def invitation_for_change(member: Member, invitation_id: str) -> Invitation:
    """Return an invitation that the member may withdraw; raises `Http404`, `PermissionDenied`."""
    found = Invitation.objects.filter(organization_id=member.organization_id, pk=invitation_id).first()
    if found is None or member.organization_role is None:
        raise Http404
    require(member, Permission.OWNERS_CHANGE if found.role == Role.OWNER else Permission.MEMBERS_CHANGE)
    return found
