"""Which rate limit holds for a key: its own, its tier's, or that of its organization's plan (KEYS §2). Pure."""

from dataclasses import dataclass
from enum import StrEnum

from keys.errors import Invalid, InvalidMany
from orgs import terms
from orgs.terms import RateLimit, Terms


class Source(StrEnum):
    """Whence a key's limit comes."""

    KEY = "key"
    TIER = "tier"
    PLAN = "plan"


@dataclass(frozen=True, slots=True)
class TierName:
    """The tier that somebody asks for, by its slug."""

    slug: str


@dataclass(frozen=True, slots=True)
class TierLimit:
    """What a tier gives to each of its keys; `monthly_quota` None for none."""

    slug: str
    rate_limit: RateLimit
    monthly_quota: int | None = None


# What a key has been given: a limit of its own, a tier's, or, for None, that of its organization's plan.
type Given = RateLimit | TierLimit | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much may pass with a key: None for as much as one likes."""

    rate_limit: RateLimit | None
    monthly_quota: int | None

    def is_within(self, other: "Allowance") -> bool:
        """Tell whether the other lets through all that this does."""
        return limit_is_within(self.rate_limit, other.rate_limit) and (
            other.monthly_quota is None
            or (self.monthly_quota is not None and self.monthly_quota <= other.monthly_quota)
        )


def effective_limit(
    own: RateLimit | None, tier: RateLimit | None, plan: RateLimit | None
) -> tuple[RateLimit | None, Source | None]:
    """Return the limit that holds and whence it comes; neither, where nothing limits the key."""
    for limit, source in ((own, Source.KEY), (tier, Source.TIER), (plan, Source.PLAN)):
        if limit is not None:
            return limit, source
    return None, None


def allowance(given: Given, plan: RateLimit | None) -> Allowance:
    """Return how much may pass with a key that has been given this, in an organization of this plan."""
    match given:
        case TierLimit():
            return Allowance(given.rate_limit, given.monthly_quota)
        case RateLimit():
            return Allowance(given, None)
        case _:
            return Allowance(plan, None)


def limit_is_within(limit: RateLimit | None, other: RateLimit | None) -> bool:
    """Tell whether the other limit lets through all that the first does; None lets everything through."""
    return other is None or (limit is not None and limit.is_within(other))


def told(given: Given | TierName) -> str:
    """Return what a key has been given as entries of the ledger tell of it."""
    match given:
        case TierLimit() | TierName():
            return f"tier {given.slug}"
        case RateLimit():
            return str(given)
        case _:
            return "as the plan says"


def check_rate_limit(limit: RateLimit) -> RateLimit:
    """Return a limit within the bounds of `orgs.terms`.

    Raises:
        Invalid, InvalidMany: fields `rate_limit.requests`, `rate_limit.window_seconds`.
    """
    errors = [
        Invalid(error.detail, field=error.field.replace("rate_limit_", "rate_limit."))
        for error in terms.term_errors(Terms(rate_limit=limit))
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else InvalidMany(errors)
    return limit
