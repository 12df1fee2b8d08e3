"""The only door to an organization's own objects: what a member may see or change, else 404 for all alike."""

from django.http import Http404

from orgs.members import Member
from orgs.models import Environment, Invitation, Membership, Project
from orgs.roles import Permission


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


def environments(member: Member) -> list[Environment]:
    """Return the organization's environments that are in use, production first."""
    return list(Environment.objects.filter(organization_id=member.organization_id, archived_at__isnull=True))


def environment(member: Member, environment_id: str) -> Environment:
    """Return one environment of the organization; raises `Http404`."""
    found = Environment.objects.filter(organization_id=member.organization_id, pk=environment_id).first()
    if found is None:
        raise Http404
    return found


def memberships(member: Member) -> list[Membership]:
    """Return the organization's memberships by name; raises `Http404` unless the member belongs to all of it."""
    if member.organization_role is None:
        raise Http404
    found = Membership.objects.filter(organization_id=member.organization_id).select_related("user", "project")
    return list(found.order_by("user__name", "user__email", "project__label_path"))


def membership_for_change(member: Member, membership_id: str) -> Membership:
    """Return one membership that the member may change or end; raises `Http404`."""
    found = (
        Membership.objects.filter(organization_id=member.organization_id, pk=membership_id)
        .select_related("user", "project")
        .first()
    )
    if found is None or not member.may(Permission.MEMBERS_CHANGE):
        raise Http404
    return found


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
    """Return an invitation that the member may withdraw; raises `Http404`."""
    found = Invitation.objects.filter(organization_id=member.organization_id, pk=invitation_id).first()
    if found is None or not member.may(Permission.MEMBERS_CHANGE):
        raise Http404
    return found
