"""Rate limits and tiers in the words that pages use, and what a person may choose from."""

from collections.abc import Mapping
from typing import Final

from keys.callers import Caller
from keys.models import ApiKey, Tier
from keys.pages.meters import spoken_window
from keys.policy import Given, Source, TierLimit, effective_limit, limit_is_within
from keys.services.common import terms_of
from orgs.terms import RateLimit

INHERIT, OWN, NAMED = "inherit", "custom", "tier:"
_SOURCES: Final[Mapping[Source, str]] = {Source.KEY: "its own", Source.PLAN: "from the plan"}


def rate(limit: RateLimit | None) -> str:
    """Return a limit in words: `1,000 in any minute`."""
    if limit is None:
        return "no limit"
    window = spoken_window(limit.window_seconds).removeprefix("an ").removeprefix("a ")
    return f"{limit.requests:,} in any {window}"


def tier_terms(tier: Tier) -> str:
    """Return what each key of a tier may spend: `500 in any minute, 10,000 a month`."""
    month = "" if tier.monthly_quota is None else f", {tier.monthly_quota:,} a month"
    return rate(tier.rate_limit) + month


def given(key_limit: Given, plan: RateLimit | None) -> str:
    """Return what counts of what a key has been given, and whence: `1,000 in any minute, from the plan`."""
    tier = Tier.objects.get(pk=key_limit.slug) if isinstance(key_limit, TierLimit) else None
    own = key_limit if isinstance(key_limit, RateLimit) else None
    limit, source = effective_limit(own, tier.rate_limit if tier else None, plan)
    if limit is None or source is None:
        return "No limit, as the plan says"
    if tier is not None:
        return f"{tier_terms(tier)}, from the tier {tier.name}"
    return f"{rate(limit)}, {_SOURCES[source]}"


def of_key(key: ApiKey) -> str:
    """Return what limits a key, in words."""
    return given(key.limit, terms_of(key.organization_id).rate_limit)


def tiers_within(plan: RateLimit | None) -> list[Tier]:
    """Return the tiers that customers of a plan may choose, by name."""
    return [tier for tier in Tier.objects.all() if limit_is_within(tier.rate_limit, plan)]


def choices(caller: Caller, organization_id: str, held: str | None = None) -> list[tuple[str, str]]:
    """Return the limits that a person may choose for a key: the plan's, a tier's, its own.

    `held` is the slug of the tier that the key has already, which is offered whatever the plan says.
    """
    plan = terms_of(organization_id).rate_limit
    may_exceed = caller.member is not None and caller.member.user.is_superuser
    offered = [
        tier
        for tier in Tier.objects.all()
        if may_exceed or tier.slug == held or limit_is_within(tier.rate_limit, plan)
    ]
    return [
        (INHERIT, f"As the plan says: {rate(plan)}"),
        *[(f"{NAMED}{tier.slug}", f"{tier.name}: {tier_terms(tier)}") for tier in offered],
        (OWN, "Its own"),
    ]
