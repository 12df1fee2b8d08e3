"""What the operator of the demo sells: three plans beside the standard one, and a tier for busy keys."""

from typing import Final

from audit.actors import Actor
from keys.models import Tier
from keys.services import TierDraft, create_tier
from orgs.models import Plan
from orgs.services import create_plan
from orgs.terms import RateLimit, Terms

# Slug, name, words, terms, and for how many days each call is kept.
PLANS: Final[tuple[tuple[str, str, str, Terms, int], ...]] = (
    (
        "free",
        "Free",
        "To try it out.",
        Terms(
            rate_limit=RateLimit(600, 60),
            monthly_quota=100_000,
            key_cap=10,
            entitlements={"bulk_export": False, "seats": 3, "single_sign_on": False},
        ),
        7,
    ),
    (
        "growth",
        "Growth",
        "For teams that grow.",
        Terms(
            rate_limit=RateLimit(60_000, 60),
            monthly_quota=50_000_000,
            key_cap=1_000,
            entitlements={"bulk_export": True, "seats": 25, "single_sign_on": False},
        ),
        90,
    ),
    (
        "enterprise",
        "Enterprise",
        "Everything.",
        Terms(entitlements={"bulk_export": True, "dedicated_support": True, "single_sign_on": True}),
        365,
    ),
)
HIGH_VOLUME: Final = "high-volume"
TIERS: Final = (
    (
        HIGH_VOLUME,
        TierDraft(
            name="High volume",
            description="For collectors that send in bursts.",
            requests=300_000,
            window_seconds=60,
            monthly_quota=20_000_000,
        ),
    ),
)


def add_plans(*, actor: Actor) -> None:
    """Make the plans and tiers that are not there."""
    for slug, name, description, terms, days in PLANS:
        if not Plan.objects.filter(pk=slug).exists():
            create_plan(
                name,
                actor=actor,
                slug=slug,
                description=description,
                terms=terms,
                usage_retention_days=days,
            )
    for slug, draft in TIERS:
        if not Tier.objects.filter(pk=slug).exists():
            create_tier(slug, draft, actor=actor)
