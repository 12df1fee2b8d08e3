"""What an organization has bought: its plan's terms, and what the operator agreed to differently. Pure.

An override that is absent leaves the plan's term; one that is null lifts the limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

RATE_LIMIT: Final = "rate_limit"
MONTHLY_QUOTA: Final = "monthly_quota"
KEY_CAP: Final = "key_cap"
ENTITLEMENTS: Final = "entitlements"
MAX_WINDOW_SECONDS: Final = 86_400 * 31
OVERRIDABLE: Final = (RATE_LIMIT, MONTHLY_QUOTA, KEY_CAP, ENTITLEMENTS)

type Entitlement = bool | int | float


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` units of cost in any sliding window of `window_seconds` (KEYS §7)."""

    requests: int
    window_seconds: int

    def is_within(self, other: "RateLimit | None") -> bool:
        """Tell whether this never lets through what the other would refuse; None refuses nothing.

        Neither the rate nor the burst may be larger: a wider window of the same rate spends it all at once.
        """
        if other is None:
            return True
        slower = self.requests * other.window_seconds <= other.requests * self.window_seconds
        return slower and (self.requests <= other.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms that count for an organization.

    Args:
        rate_limit: of each key that has none of its own; None for no limit.
        monthly_quota: units of cost for the whole organization in a calendar month (UTC); None for no quota.
        key_cap: how many keys may be in use at a time; None for any number.
        entitlements: feature to a boolean or a number; what is not named is not bought.
    """

    rate_limit: RateLimit | None = None
    monthly_quota: int | None = None
    key_cap: int | None = None
    entitlements: Mapping[str, Entitlement] = field(default_factory=dict)


def effective(plan: Terms, overrides: Mapping[str, Any]) -> Terms:
    """Return the plan's terms with an organization's overrides, as `Organization.overrides` stores them.

    Of entitlements each override replaces one of the plan; null takes it away.
    """
    own = overrides.get(ENTITLEMENTS) or {}
    merged = {**plan.entitlements, **own}
    return Terms(
        rate_limit=_rate(overrides[RATE_LIMIT]) if RATE_LIMIT in overrides else plan.rate_limit,
        monthly_quota=overrides.get(MONTHLY_QUOTA, plan.monthly_quota),
        key_cap=overrides.get(KEY_CAP, plan.key_cap),
        entitlements={name: value for name, value in merged.items() if value is not None},
    )


def is_entitled(value: Entitlement | None) -> bool:
    """Tell whether an entitlement's value grants anything: true, or a number above zero."""
    return bool(value) and value is not None and value > 0


def _rate(value: Mapping[str, int] | None) -> RateLimit | None:
    return None if value is None else RateLimit(value["requests"], value["window_seconds"])
