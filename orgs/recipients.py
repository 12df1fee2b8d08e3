"""Who may be told by mail what happens in an organization: the answers that audit asks for (`audit.ports`)."""

from collections import defaultdict
from collections.abc import Collection

from django.db.models import Q, QuerySet

from audit.ports import Recipient
from orgs.models import Membership, Organization, Project


def recipients(organization_id: str, roles: Collection[str], user_ids: Collection[str]) -> list[Recipient]:
    """Return the people of an organization who hold one of the roles in all of it, or whose ids are given.

    None whose account is disabled, who is no member any more, or whose organization is suspended. Personal data.
    """
    standing = _standing(organization_id).filter(
        Q(role__in=list(roles), project__isnull=True) | Q(user_id__in=list(user_ids))
    )
    people = standing.values_list("user_id", "user__name", "user__email").order_by("user_id").distinct()
    return [Recipient(id=user_id, name=name, email=email) for user_id, name, email in people]


def project_recipients(
    organization_id: str, roles: Collection[str], project_ids: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return who holds one of the roles at each of some projects, by a membership there or at a project above it.

    By project's id and person's id, with the id of the topmost project where the person holds it. None for a role in
    the whole organization, and none whom `recipients` leaves out.
    """
    local = _standing(organization_id).filter(role__in=list(roles), project__isnull=False)
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for user_id, project_id in local.order_by("user_id").values_list("user_id", "project_id"):
        holders[project_id].append(user_id)
    return {
        project.id: {user_id: above for above in reversed(project.ancestors) for user_id in holders[above]}
        for project in Project.objects.of(organization_id).filter(pk__in=list(project_ids))
    }


def _standing(organization_id: str) -> QuerySet[Membership]:
    return Membership.objects.filter(
        organization_id=organization_id, organization__suspended_at__isnull=True, user__is_active=True
    )


def organization_name(organization_id: str) -> str:
    """Return an organization's name; "" for one that is not there."""
    return Organization.objects.filter(pk=organization_id).values_list("name", flat=True).first() or ""
