"""The only door to a key: what a member or an API caller may see or change, else 404 for stranger and unknown alike."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, QuerySet
from django.http import Http404

from keys import peppers, secret
from keys.callers import Caller, Presented
from keys.errors import Forbidden, SelfRotationRefused
from keys.models import (
    ApiKey,
    ApiKeyQuerySet,
    Approval,
    Execution,
    Incident,
    IncidentKey,
    KeySecret,
    Recipient,
    Rotation,
)
from keys.models.governance import ApprovalQuerySet
from keys.models.recipient import RecipientQuerySet
from keys.models.rotation import RotationQuerySet
from keys.scopes import BREAK_GLASS, holds
from orgs.members import Member
from orgs.models import Project
from orgs.roles import Permission


def keys(member: Member) -> ApiKeyQuerySet:
    """Return the keys that a person sees: those of their projects, below the project that they have chosen."""
    visible = ApiKey.objects.of(member.organization_id).in_projects(visible_projects(member))
    return visible.select_related("project", "environment", "owner_user")


def key(member: Member, key_id: str) -> ApiKey:
    """Return one key that a person may see; raises `Http404`."""
    found = ApiKey.objects.of(member.organization_id).select_related("project", "environment", "owner_user")
    seen = found.filter(pk=key_id).first()
    if seen is None or not member.may(Permission.KEYS_VIEW, seen.project):
        raise Http404
    return seen


def key_for_change(member: Member, key_id: str) -> ApiKey:
    """Return one key that a person may change; raises `Http404`, and `PermissionDenied` where they only see it."""
    seen = key(member, key_id)
    if not member.may(Permission.KEYS_CHANGE, seen.project):
        raise PermissionDenied("You may see this key, but not change it.")
    return seen


def key_of_secret(member: Member, text: str) -> ApiKey:
    """Return the key that a whole secret opens or once opened, where the person may see it.

    Raises:
        Malformed: no secret of this deployment, or with a typing error; nothing was looked up.
        Http404: no key of this organization that the person may see.
    """
    secret.parse(text, settings.KEY_BRAND)
    secrets = KeySecret.objects.filter(organization_id=member.organization_id)
    found = secrets.filter(digest__in=peppers.digests(text)).values_list("key_id", flat=True).first()
    return key(member, found or "")


def keys_for_change(member: Member, key_ids: Sequence[str], *, is_locked: bool = False) -> list[ApiKey]:
    """Return those of the chosen keys that a person may change; the others are left out without a word.

    `is_locked`: hold their rows until the transaction ends, for a change that depends on what they are now.
    """
    chosen = ApiKey.objects.of(member.organization_id).filter(pk__in=list(key_ids))
    if is_locked:
        chosen = chosen.select_for_update(of=("self",))
    return [
        key
        for key in chosen.select_related("project", "environment", "owner_user", "use").order_by("id")
        if member.may(Permission.KEYS_CHANGE, key.project)
    ]


def recipients(member: Member) -> RecipientQuerySet:
    """Return the organization's recipients, the newest first; raises `PermissionDenied` unless they may set them."""
    if not member.may(Permission.ORGANIZATION_CONFIGURE):
        raise PermissionDenied("Owners and admins register recipient keys.")
    return Recipient.objects.of(member.organization_id)


def recipient(member: Member, recipient_id: str) -> Recipient:
    """Return one that is not removed; raises `Http404`, and `PermissionDenied` as `recipients`."""
    found = recipients(member).current().filter(pk=recipient_id).first()
    if found is None:
        raise Http404
    return found


def projects_for_creation(member: Member) -> list[Project]:
    """Return the projects in which a person may create keys, in tree order."""
    everything = Project.objects.of(member.organization_id).filter(archived_at__isnull=True).in_tree_order()
    return [project for project in everything if member.may(Permission.KEYS_CHANGE, project)]


def visible_projects(member: Member) -> list[str] | None:
    """Return the ids of the projects to show; None where the whole organization is."""
    if member.project is None and member.may(Permission.KEYS_VIEW):
        return None
    root = member.project.path if member.project else ""
    return [
        project.id
        for project in Project.objects.of(member.organization_id)
        if project.path.startswith(root) and member.may(Permission.KEYS_VIEW, project)
    ]


def keys_of_presented(presented: Presented, organization_id: str) -> ApiKeyQuerySet:
    """Return the keys that a key sees over the API: its own project's and below; all, for the operator's."""
    visible = ApiKey.objects.of(organization_id)
    if not presented.is_operator:
        visible = visible.in_projects(_below(presented, organization_id))
    return visible.select_related("project", "environment", "owner_user")


def keys_to_break(caller: Caller, organization_id: str) -> ApiKeyQuerySet:
    """Return the keys that a caller may revoke in one break-glass, whatever project is being looked at.

    Raises:
        Forbidden: a person without the role for it anywhere, a key without `keys:breakglass`, or a stranger.
    """
    member, presented = caller.member, caller.presented
    if member is not None and member.organization_id == organization_id:
        projects = _projects_to_break(member)
        if projects != []:
            return ApiKey.objects.of(organization_id).in_projects(projects)
    elif presented is not None and holds(presented.scopes, BREAK_GLASS):
        is_at_home = presented.key.organization_id == organization_id
        if is_at_home or presented.is_operator:
            return keys_of_presented(presented, organization_id)
    raise Forbidden("You may not break the glass.")


def _projects_to_break(member: Member) -> list[str] | None:
    if member.may(Permission.KEYS_BREAK_GLASS):
        return None
    return [
        project.id
        for project in Project.objects.of(member.organization_id)
        if member.may(Permission.KEYS_BREAK_GLASS, project)
    ]


def approvals(member: Member) -> ApprovalQuerySet:
    """Return the approvals that a person sees: those of the keys that they see."""
    found = Approval.objects.of(member.organization_id).whole()
    projects = visible_projects(member)
    return found if projects is None else found.filter(key__project_id__in=projects)


def approval(member: Member, approval_id: str) -> Approval:
    """Return one approval whose key a person may see; raises `Http404`."""
    found = Approval.objects.of(member.organization_id).whole().filter(pk=approval_id).first()
    if found is None or not member.may(Permission.KEYS_VIEW, found.key.project):
        raise Http404
    return found


def executions(member: Member) -> QuerySet[Execution]:
    """Return the executions that a person sees: those of the keys that they see."""
    found = Execution.objects.filter(organization_id=member.organization_id)
    projects = visible_projects(member)
    seen = found if projects is None else found.filter(key__project_id__in=projects)
    return seen.select_related("key__project", "key__environment", "approval")


def execution(member: Member, execution_id: str) -> Execution:
    """Return one execution of a key that a person may see; raises `Http404`."""
    found = (
        Execution.objects.filter(organization_id=member.organization_id, pk=execution_id)
        .select_related("key__project", "key__environment", "approval")
        .first()
    )
    if found is None or not member.may(Permission.KEYS_VIEW, found.key.project):
        raise Http404
    return found


def keys_for_approval(member: Member, now: datetime) -> list[ApiKey]:
    """Return the keys bound to approvals that a person may ask for, by name."""
    bound = keys(member).filter(approval_bound=True).not_ended(now).order_by("name", "id")
    return [key for key in bound if member.may(Permission.KEYS_CHANGE, key.project)]


def approvals_of_presented(presented: Presented, organization_id: str) -> ApprovalQuerySet:
    """Return the approvals that a key sees over the API: its own, and those of the keys that it sees."""
    found = Approval.objects.of(organization_id).whole()
    if presented.is_operator:
        return found
    return found.filter(key__project_id__in=_below(presented, organization_id))


def execution_of_presented(presented: Presented, organization_id: str, execution_id: str) -> Execution:
    """Return an execution of the very key that asks, or of one that it sees and asks approvals for; or `Http404`."""
    found = Execution.objects.filter(organization_id=organization_id, pk=execution_id)
    if not holds(presented.scopes, "approvals:request"):
        found = found.filter(key_id=presented.key.id)
    elif not presented.is_operator:
        found = found.filter(key__project_id__in=_below(presented, organization_id))
    seen = found.select_related("key", "approval").first()
    if seen is None:
        raise Http404
    return seen


def _below(presented: Presented, organization_id: str) -> list[str]:
    below = Project.objects.of(organization_id).filter(path__startswith=presented.project.path)
    return [project.id for project in below]


def rotations(member: Member) -> RotationQuerySet:
    """Return the rotations of the keys that a person sees, below the project that they have chosen."""
    found = _rotations(member.organization_id)
    projects = visible_projects(member)
    return found if projects is None else found.filter(key__project_id__in=projects)


def rotation(member: Member, rotation_id: str) -> Rotation:
    """Return one rotation of a key that a person may see; raises `Http404`."""
    found = _rotations(member.organization_id).filter(pk=rotation_id).first()
    if found is None or not member.may(Permission.KEYS_VIEW, found.key.project):
        raise Http404
    return found


def rotation_for_change(member: Member, rotation_id: str) -> Rotation:
    """Return one rotation that a person may end; raises `Http404`, and `PermissionDenied` where they only see it."""
    found = rotation(member, rotation_id)
    if not member.may(Permission.KEYS_CHANGE, found.key.project):
        raise PermissionDenied("You may see this rotation, but not end it.")
    return found


def rotation_of_itself(presented: Presented, rotation_id: str) -> Rotation | None:
    """Return a rotation of the very key that asks; None where it is not one of its own.

    Raises:
        SelfRotationRefused: it asks with another secret than its newest.
    """
    own = _rotations(presented.key.organization_id).filter(pk=rotation_id, key_id=presented.key.id).first()
    if own is not None and presented.version != presented.key.newest_version:
        raise SelfRotationRefused("Only the newest secret of a key sees, completes and cancels its rotation.")
    return own


def rotation_of_presented(presented: Presented, rotation_id: str) -> Rotation:
    """Return one rotation of a key that a key sees over the API; raises `Http404`."""
    organization_id = presented.key.organization_id
    found = _rotations(organization_id).filter(pk=rotation_id).first()
    if found is None or not keys_of_presented(presented, organization_id).filter(pk=found.key_id).exists():
        raise Http404
    return found


def _rotations(organization_id: str) -> RotationQuerySet:
    return Rotation.objects.of(organization_id).select_related(
        "key__project", "key__environment", "key__owner_user"
    )


def incidents(member: Member) -> QuerySet[Incident]:
    """Return the incidents of whose keys a person sees at least one, the newest first."""
    seen = keys_of_incidents(member).filter(incident=OuterRef("pk"))
    found = Incident.objects.filter(Exists(seen), organization_id=member.organization_id)
    return found.order_by("-opened_at", "-id")


def incident(member: Member, incident_id: str) -> Incident:
    """Return one of them; raises `Http404`."""
    found = incidents(member).filter(pk=incident_id).first()
    if found is None:
        raise Http404
    return found


def keys_of_incidents(member: Member) -> QuerySet[IncidentKey]:
    """Return the keys of incidents that a person sees, whatever project is being looked at."""
    found = IncidentKey.objects.filter(organization_id=member.organization_id)
    if member.may(Permission.KEYS_VIEW):
        return found
    projects = [
        project.id
        for project in Project.objects.of(member.organization_id)
        if member.may(Permission.KEYS_VIEW, project)
    ]
    return found.filter(key__project_id__in=projects)
