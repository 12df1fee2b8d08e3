"""Organizations as a whole, and what the operator agreed with each of them."""

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from audit import ledger, tenancy
from audit.actors import Actor
from audit.acts import Act
from orgs import terms
from orgs.errors import Forbidden, Taken
from orgs.members import Member
from orgs.models import Environment, Membership, Organization, Plan, Project, User
from orgs.models.organization import new_organization_id, new_project_id
from orgs.roles import Role
from orgs.services.common import difference, lock, recording, refusing
from orgs.services.differences import changed_overrides


def create_organization(
    name: str, *, actor: Actor, slug: str, plan: Plan, owner: User | None = None
) -> Organization:
    """Make a tenant with its root project and a production environment; its ledger begins with `organization.created`.

    Args:
        name: what people read, at most 100 characters.
        actor: who makes it.
        slug: short and unique, of the form `orgs.models.organization.SLUG`.
        plan: what it has bought.
        owner: the first owner; without one, an owner is invited later.

    Raises:
        Taken: the slug is another's (field `slug`).
    """
    organization = Organization(id=new_organization_id(), name=name, slug=slug, plan=plan)
    with (
        refusing(Taken),
        tenancy.everywhere(tenancy.Reason.CREATION),
        ledger.recording(organization.id, actor) as entry,
    ):
        organization.save(force_insert=True)
        root = new_project_id()
        Project.objects.create(
            id=root, organization=organization, name=name, path=f"/{root}/", label_path=name
        )
        Environment.objects.create(
            organization=organization,
            slug="production",
            name="Production",
            mode=Environment.Mode.LIVE,
            is_production=True,
        )
        if owner is not None:
            Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
        entry(
            Act.ORGANIZATION_CREATED,
            target=organization.id,
            data={
                "name": name,
                "slug": slug,
                "plan": plan.pk,
                "owner": owner.id if owner else None,
                "project": root,
            },
        )
    return organization


def change_organization(
    organization: Organization, *, actor: Actor, name: str, slug: str, plan: Plan | None = None
) -> bool:
    """Change an organization's name, slug and, for the operator, plan; record `organization.changed`.

    Returns:
        Whether anything changed; where nothing did, nothing is recorded.

    Raises:
        Taken: the slug is another's (field `slug`).
        Gone: the organization is no more.
    """
    with refusing(Taken), recording(organization.id, actor) as entry:
        found = lock(organization.id)
        after = {"name": name, "slug": slug, "plan": plan.pk if plan else found.plan_id}
        changes = difference({"name": found.name, "slug": found.slug, "plan": found.plan_id}, after)
        if changes:
            Organization.objects.filter(pk=found.pk).update(name=name, slug=slug, plan=after["plan"])
            entry(Act.ORGANIZATION_CHANGED, target=found.id, data=changes)
    organization.name, organization.slug, organization.plan_id = name, slug, after["plan"]
    return bool(changes)


def suspend_organization(organization: Organization, *, actor: Actor, reason: str = "") -> bool:
    """Refuse every key of an organization from now on; record `organization.suspended`.

    Args:
        organization: not the operator's, whose keys run the portal.
        actor: who does it.
        reason: free text, sealed in the ledger.

    Returns:
        Whether this call did it.

    Raises:
        Forbidden: it is the operator's.
    """
    if organization.is_operator:
        raise Forbidden("The operator's own organization can't be suspended.")
    now = timezone.now()
    with recording(organization.id, actor) as entry:
        standing = Organization.objects.filter(pk=organization.pk, suspended_at__isnull=True)
        changed = standing.update(suspended_at=now)
        if changed:
            entry(Act.ORGANIZATION_SUSPENDED, target=organization.id, sealed={"note": reason})
            organization.suspended_at = now
    return bool(changed)


def resume_organization(organization: Organization, *, actor: Actor) -> bool:
    """Let a suspended organization's keys work again and record `organization.resumed`.

    Returns:
        Whether this call did it.
    """
    with recording(organization.id, actor) as entry:
        suspended = Organization.objects.filter(pk=organization.pk, suspended_at__isnull=False)
        changed = suspended.update(suspended_at=None)
        if changed:
            entry(Act.ORGANIZATION_RESUMED, target=organization.id)
    organization.suspended_at = None
    return bool(changed)


def change_overrides(organization: Organization, overrides: Mapping[str, Any], *, actor: Actor) -> bool:
    """Agree to terms of an organization's own beside its plan's; record `organization.changed`.

    Args:
        organization: any, the operator's too.
        overrides: all of them, as `Organization.overrides` stores them: what is left out is the plan's again.
        actor: the operator's, never a member: customers don't change what they have bought.

    Returns:
        Whether anything changed; where nothing did, nothing is recorded.

    Raises:
        Forbidden: a member asks.
        Invalid, InvalidMany: see `orgs.terms.check_overrides`.
        Gone: the organization is no more.
    """
    if isinstance(actor, Member):
        raise Forbidden
    terms.check_overrides(overrides)
    after = {name: value for name, value in overrides.items() if (name, value) != (terms.ENTITLEMENTS, {})}
    with recording(organization.id, actor) as entry:
        before = lock(organization.id).overrides
        changes = changed_overrides(before, after)
        Organization.objects.filter(pk=organization.pk).update(overrides=after)
        for part in changes:
            entry(Act.ORGANIZATION_CHANGED, target=organization.id, data=part)
    organization.overrides = after
    return bool(changes)
