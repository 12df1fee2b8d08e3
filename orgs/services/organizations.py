"""Organizations as a whole, and the plans they are on."""

from django.utils import timezone

from audit import ledger
from audit.actors import Actor
from audit.acts import Act
from orgs import tenancy
from orgs.errors import Forbidden, Gone, Taken
from orgs.models import Environment, Membership, Organization, Plan, Project, User
from orgs.models.organization import new_organization_id, new_project_id
from orgs.roles import Role
from orgs.services.common import difference, lock, operator_recording, recording, refusing


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


def create_plan(name: str, *, actor: Actor, slug: str, description: str = "") -> Plan:
    """Make a plan and record `plan.created` in the operator's ledger.

    Raises:
        Taken: the slug is another plan's (field `slug`).
    """
    with refusing(Taken), operator_recording(actor) as entry:
        plan = Plan.objects.create(slug=slug, name=name, description=description)
        entry(Act.PLAN_CREATED, target=slug, data={"name": name, "description": description})
    return plan


def change_plan(plan: Plan, *, actor: Actor, name: str, description: str) -> bool:
    """Change a plan's words and record `plan.changed` in the operator's ledger; return whether anything changed.

    Raises:
        Gone: there is no such plan any more.
    """
    with operator_recording(actor) as entry:
        found = Plan.objects.select_for_update(no_key=True).filter(pk=plan.pk).first()
        if found is None:
            raise Gone
        after = {"name": name, "description": description}
        changes = difference({"name": found.name, "description": found.description}, after)
        if changes:
            Plan.objects.filter(pk=plan.pk).update(**after)
            entry(Act.PLAN_CHANGED, target=plan.pk, data=changes)
    plan.name, plan.description = name, description
    return bool(changes)
