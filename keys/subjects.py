"""What entries are about, for those who are told by mail: keys with whom they belong to and where they are seen."""

from collections.abc import Collection

from django.urls import reverse

from audit.ports import Subject
from keys.models import ApiKey
from orgs.models import Membership


def subjects(organization_id: str, targets: Collection[str]) -> dict[str, Subject]:
    """Return the keys among the targets of entries, each with its owner while they have standing at its project."""
    keys = ApiKey.objects.of(organization_id).filter(
        pk__in=[each for each in targets if each.startswith("key_")]
    )
    found = list(keys.values_list("id", "name", "owner_user_id", "project__path"))
    reach = _reach(organization_id, {owner for _, _, owner, _ in found if owner})
    return {
        key_id: Subject(
            name=name,
            owner_id=owner if owner and path.startswith(reach.get(owner, ())) else "",
            path=reverse("keys:detail", args=[key_id]),
        )
        for key_id, name, owner, path in found
    }


def _reach(organization_id: str, owners: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the projects where each owner is a member; "" is the whole organization."""
    reach: dict[str, tuple[str, ...]] = {}
    rows = Membership.objects.filter(organization_id=organization_id, user_id__in=owners)
    for user_id, path in rows.values_list("user_id", "project__path"):
        reach[user_id] = (*reach.get(user_id, ()), path or "")
    return reach
