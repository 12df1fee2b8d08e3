"""Who may be told by mail what happens in an organization: the answers that audit asks for (`audit.ports`)."""

from collections.abc import Collection

from django.db.models import Q

from audit.ports import Recipient
from orgs.models import Membership, Organization


def recipients(organization_id: str, roles: Collection[str], user_ids: Collection[str]) -> list[Recipient]:
    """Return the people of an organization who hold one of the roles in all of it, or whose ids are given.

    None whose account is disabled, who is no member any more, or whose organization is suspended. Personal data.
    """
    standing = Membership.objects.filter(
        Q(role__in=list(roles), project__isnull=True) | Q(user_id__in=list(user_ids)),
        organization_id=organization_id,
        organization__suspended_at__isnull=True,
        user__is_active=True,
    )
    people = standing.values_list("user_id", "user__name", "user__email").order_by("user_id").distinct()
    return [Recipient(id=user_id, name=name, email=email) for user_id, name, email in people]


def organization_name(organization_id: str) -> str:
    """Return an organization's name; "" for one that is not there."""
    return Organization.objects.filter(pk=organization_id).values_list("name", flat=True).first() or ""
