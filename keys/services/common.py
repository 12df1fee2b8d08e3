"""What several of the services need: the rule of an organization, the name of an entry's facts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keys.callers import Caller
from keys.errors import Forbidden, Invalid, InvalidMany
from keys.governance import ApprovalRule, Required
from keys.models import ApiKey, KeyPolicy, Tier
from keys.policy import Absent, ExpiryRule, Given, TierLimit, TierName, check_rate_limit
from keys.secret import Kind
from orgs.models import Organization
from orgs.terms import RateLimit, Terms

# A limit that somebody asks for: their own figures, a tier by its name, None for the plan's, or nothing at all.
type LimitAsked = RateLimit | TierName | Absent | None


def policy_of(organization_id: str) -> KeyPolicy:
    """Return the organization's policy, or the product's defaults where it has none of its own."""
    found = KeyPolicy.objects.filter(organization_id=organization_id).first()
    return found or KeyPolicy(organization_id=organization_id)


def rule_for(policy: KeyPolicy, kind: Kind) -> ExpiryRule:
    """Return the expiry rule of a kind of key."""
    return ExpiryRule(
        default_days=getattr(policy, f"{kind}_default_days"),
        max_days=getattr(policy, f"{kind}_max_days"),
        may_never=Kind(kind) is Kind.INGESTION and policy.ingestion_may_never_expire,
    )


def approval_rule_for(policy: KeyPolicy) -> ApprovalRule:
    """Return the organization's rules for approvals."""
    return ApprovalRule(
        required=Required(policy.approvals_required),
        max_hours=policy.approval_max_hours,
        max_uses=policy.approval_max_uses,
    )


def terms_of(organization_id: str) -> Terms:
    """Return what counts for an organization: its plan's terms with its overrides."""
    return Organization.objects.select_related("plan").get(pk=organization_id).terms


def check_limit(asked: RateLimit | TierName | None) -> Given:
    """Return what a key would be given.

    Raises:
        Invalid, InvalidMany: figures out of bounds, or no such tier (fields of `rate_limit`).
    """
    if asked is None:
        return None
    if isinstance(asked, RateLimit):
        return check_rate_limit(asked)
    tier = Tier.objects.filter(pk=asked.slug).first()
    if tier is None:
        raise Invalid("There is no such tier.", field="rate_limit.tier")
    return tier.limit


def limit_columns(given: Given) -> dict[str, object]:
    """Return the columns of a key that hold what it has been given."""
    own = given if isinstance(given, RateLimit) else None
    return {
        "rate_limit_requests": own.requests if own else None,
        "rate_limit_window_seconds": own.window_seconds if own else None,
        "tier_id": given.slug if isinstance(given, TierLimit) else None,
    }


def collect(checks: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run every check and return what they return, so that a form shows all its errors at once.

    Raises:
        Invalid: the only error there was.
        InvalidMany: several.
    """
    results: list[Any] = []
    errors: list[Invalid] = []
    for check in checks:
        try:
            results.append(check())
        except Invalid as error:
            errors.extend(error.errors)
            results.append(None)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InvalidMany(errors)
    return results


def check_reach(actor: Caller, key: ApiKey) -> None:
    """Refuse a caller who may see a key but not change it; whoever may not see it was answered 404 before.

    Raises:
        Forbidden: no role, and no project of the caller's key, reaches this key.
    """
    if not actor.reaches(key.project):
        raise Forbidden("You may not change this key.")


def facts(key: ApiKey, **more: Any) -> dict[str, Any]:
    """Return what every entry about a key says of it: its name, and the facts of the act."""
    return {"name": key.name, **more}


def tag_list(tags: Mapping[str, str]) -> list[str]:
    """Return tags as the ledger has them, `k=v`, sorted: member names there are not free."""
    return sorted(f"{name}={value}" for name, value in tags.items())
