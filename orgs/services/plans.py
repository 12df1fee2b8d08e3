"""What the operator sells: plans, with all their terms."""

from typing import Any

from audit.actors import Actor
from audit.acts import Act
from orgs.errors import Gone, Taken
from orgs.models import Plan
from orgs.services.common import difference, operator_recording, refusing
from orgs.services.differences import parts, told, told_entitlements
from orgs.terms import ENTITLEMENTS, Terms, check_retention, check_terms

RETENTION_DAYS = 90


def create_plan(
    name: str,
    *,
    actor: Actor,
    slug: str,
    description: str = "",
    terms: Terms | None = None,
    usage_retention_days: int = RETENTION_DAYS,
) -> Plan:
    """Make a plan and record `plan.created` in the operator's ledger.

    Args:
        name, description: what people read, at most 100 and 1,000 characters.
        actor: the operator's.
        slug: of the form `orgs.models.organization.SLUG`.
        terms: its limits and entitlements; without them there is no limit, and nothing is bought.
        usage_retention_days: how long each call is kept, 1 to 3,650 days; sums are kept longer.

    Raises:
        Taken: the slug is another plan's (field `slug`).
        Invalid, InvalidMany: see `orgs.terms.check_terms`, `check_retention`.
    """
    terms = terms or Terms()
    _check(terms, usage_retention_days)
    columns = {"name": name, "description": description, "usage_retention_days": usage_retention_days}
    with refusing(Taken), operator_recording(actor) as entry:
        plan = Plan.objects.create(slug=slug, **columns, **_columns(terms))
        entitlements = {ENTITLEMENTS: told_entitlements(terms.entitlements)}
        entry(Act.PLAN_CREATED, target=slug, data={**columns, **told(terms), **entitlements})
    return plan


def change_plan(
    plan: Plan,
    *,
    actor: Actor,
    name: str,
    description: str,
    terms: Terms | None = None,
    usage_retention_days: int | None = None,
) -> bool:
    """Change a plan and record `plan.changed` in the operator's ledger; return whether anything changed.

    It counts for every organization on it from the next call on. Without `terms` or `usage_retention_days` those stay.

    Raises:
        Invalid, InvalidMany: as `create_plan`.
        Gone: there is no such plan any more.
    """
    with operator_recording(actor) as entry:
        found = Plan.objects.select_for_update(no_key=True).filter(pk=plan.pk).first()
        if found is None:
            raise Gone
        wanted = found.terms if terms is None else terms
        days = found.usage_retention_days if usage_retention_days is None else usage_retention_days
        _check(wanted, days)
        columns = {"name": name, "description": description, "usage_retention_days": days}
        changes = difference(
            {**{field: getattr(found, field) for field in columns}, **told(found.terms)},
            {**columns, **told(wanted)},
        )
        entries = parts(changes, found.entitlements, wanted.entitlements)
        if entries:
            Plan.objects.filter(pk=plan.pk).update(**columns, **_columns(wanted))
        for part in entries:
            entry(Act.PLAN_CHANGED, target=plan.pk, data=part)
    plan.refresh_from_db()
    return bool(entries)


def _check(terms: Terms, usage_retention_days: int) -> None:
    check_terms(terms)
    check_retention(usage_retention_days)


def _columns(terms: Terms) -> dict[str, Any]:
    limit = terms.rate_limit
    return {
        "rate_limit_requests": limit.requests if limit else None,
        "rate_limit_window_seconds": limit.window_seconds if limit else None,
        "monthly_quota": terms.monthly_quota,
        "key_cap": terms.key_cap,
        "entitlements": dict(terms.entitlements),
    }
