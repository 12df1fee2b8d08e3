"""What entries are about, for those who are told by mail: what it is called, whose it is, and where it is seen."""

from collections import defaultdict
from collections.abc import Collection
from posixpath import basename, commonpath

from django.urls import reverse

from audit.ports import Subject
from keys.models import ApiKey, Approval, IncidentKey
from orgs.models import Membership


def subjects(organization_id: str, targets: Collection[str]) -> dict[str, Subject]:
    """Return the keys, approvals and incidents among the targets of entries.

    A key is its owner's while they have standing at its project; an approval is whose who asked for it, or whose the
    key is that did. A key, and an approval for it, lie in its project; an incident in the one that holds all its keys.
    """
    keys = _keys(organization_id, [each for each in targets if each.startswith("key_")])
    approvals = _approvals(organization_id, [each for each in targets if each.startswith("apr_")])
    incidents = _incidents(organization_id, [each for each in targets if each.startswith("inc_")])
    return keys | approvals | incidents


def _keys(organization_id: str, ids: Collection[str]) -> dict[str, Subject]:
    keys = ApiKey.objects.of(organization_id).filter(pk__in=ids)
    found = list(keys.values_list("id", "name", "owner_user_id", "project_id", "project__path"))
    reach = _reach(organization_id, {owner for _, _, owner, _, _ in found if owner})
    return {
        key_id: Subject(
            name=name,
            owner_id=owner if owner and path.startswith(reach.get(owner, ())) else "",
            path=reverse("keys:detail", args=[key_id]),
            project_id=project_id,
        )
        for key_id, name, owner, project_id, path in found
    }


def _approvals(organization_id: str, ids: Collection[str]) -> dict[str, Subject]:
    approvals = Approval.objects.of(organization_id).filter(pk__in=ids)
    rows = list(approvals.values_list("id", "key__name", "key__project_id", "requested_by"))
    askers = _keys(organization_id, {by for *_, by in rows if by.startswith("key_")})
    return {
        approval_id: Subject(
            name=name,
            owner_id=by if by.startswith("usr_") else askers.get(by, Subject()).owner_id,
            path=reverse("keys:approval", args=[approval_id]),
            project_id=project_id,
        )
        for approval_id, name, project_id, by in rows
    }


def _incidents(organization_id: str, ids: Collection[str]) -> dict[str, Subject]:
    paths: defaultdict[str, list[str]] = defaultdict(list)
    keys = IncidentKey.objects.filter(organization_id=organization_id, incident_id__in=ids)
    for incident_id, path in keys.values_list("incident_id", "key__project__path").distinct():
        paths[incident_id].append(path)
    return {
        each: Subject(
            path=f"/incidents/{each}", project_id=basename(commonpath(paths[each])) if each in paths else ""
        )
        for each in ids
    }


def _reach(organization_id: str, owners: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the projects where each owner is a member; "" is the whole organization."""
    reach: dict[str, tuple[str, ...]] = {}
    rows = Membership.objects.filter(organization_id=organization_id, user_id__in=owners)
    for user_id, path in rows.values_list("user_id", "project__path"):
        reach[user_id] = (*reach.get(user_id, ()), path or "")
    return reach
