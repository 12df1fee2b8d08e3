"""Environments: where keys are used. Slug and mode are fixed for ever, because the keys' secrets carry them."""

from django.utils import timezone

from audit.actors import Actor
from audit.acts import Act
from orgs import ports
from orgs.errors import Gone, Invalid, StillInUse, Taken
from orgs.models import Environment, Organization
from orgs.services.common import lock, recording, refusing


def create_environment(
    organization: Organization, slug: str, *, actor: Actor, name: str, mode: str, is_production: bool
) -> Environment:
    """Make an environment and record `environment.created`.

    Args:
        organization: whose.
        slug: short, unique in the organization for ever, and neither `live` nor `test`.
        actor: who does it.
        name: what people read, at most 100 characters.
        mode: `live` or `test`, for ever.
        is_production: whether the organization's rules for production hold; only where `mode` is `live`.

    Raises:
        Invalid: production of test mode, or a slug that is a mode (fields `is_production`, `slug`).
        Taken: the slug is or was another environment's (field `slug`).
    """
    if is_production and mode != Environment.Mode.LIVE:
        raise Invalid("Production is always live.", field="is_production")
    if slug in Environment.Mode.values:
        raise Invalid("An environment is not called live or test: these are modes.", field="slug")
    with refusing(Taken), recording(organization.id, actor) as entry:
        environment = Environment.objects.create(
            organization=organization, slug=slug, name=name, mode=mode, is_production=is_production
        )
        facts = {"slug": slug, "name": name, "mode": str(mode), "is_production": is_production}
        entry(Act.ENVIRONMENT_CREATED, target=environment.id, data=facts)
    return environment


def rename_environment(environment: Environment, name: str, *, actor: Actor) -> bool:
    """Give an environment another name and record `environment.changed`; return whether the name was another.

    Raises:
        Gone: it was archived in the meantime.
    """
    with recording(environment.organization_id, actor) as entry:
        found = _locked(environment)
        if found.name != name:
            Environment.objects.filter(pk=found.pk).update(name=name)
            changes = {"before": {"name": found.name}, "after": {"name": name}}
            entry(Act.ENVIRONMENT_CHANGED, target=found.id, data=changes)
    environment.name = name
    return found.name != name


def archive_environment(environment: Environment, *, actor: Actor) -> None:
    """Take an environment out of use and record `environment.archived`.

    Raises:
        Invalid: it is the organization's last one.
        StillInUse: working keys are left in it.
        Gone: it was archived in the meantime.
    """
    with recording(environment.organization_id, actor) as entry:
        lock(environment.organization_id)
        found = _locked(environment)
        others = Environment.objects.filter(organization_id=found.organization_id, archived_at__isnull=True)
        if not others.exclude(pk=found.pk).exists():
            raise Invalid("An organization keeps at least one environment.")
        if keys := sum(count(found) for count in ports.on_archiving):
            raise StillInUse(
                f"{keys} working {'key is' if keys == 1 else 'keys are'} left in it. Revoke first."
            )
        Environment.objects.filter(pk=found.pk).update(archived_at=timezone.now())
        entry(Act.ENVIRONMENT_ARCHIVED, target=found.id)


def _locked(environment: Environment) -> Environment:
    """Return the environment as it is, locked until the transaction ends."""
    found = (
        Environment.objects.select_for_update(no_key=True)
        .filter(pk=environment.pk, archived_at__isnull=True)
        .first()
    )
    if found is None:
        raise Gone
    return found
