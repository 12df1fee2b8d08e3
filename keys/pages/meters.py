"""How much is spent of what may be: an organization's quota, a key's rate limit and the quota of its tier."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keys import limits
from keys.models import ApiKey, KeyUse, OrganizationSpend
from keys.policy.limits import Source, effective_limit
from orgs.models import Organization
from orgs.terms import RateLimit

NEARLY_SPENT: Final = 80
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_SOURCES: Final = {Source.KEY: "its own", Source.TIER: "of its tier", Source.PLAN: "of the plan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One measure in words; `limit` is empty where there is none, `percent` is 0 to 100."""

    label: str
    used: str
    limit: str = ""
    percent: float = 0.0
    about: str = ""

    @property
    def level(self) -> str:
        """How pressing it is, as a color's name."""
        if self.percent >= NEARLY_SPENT:
            return "bad" if self.percent >= 100 else "warn"  # noqa: PLR2004 - all of it
        return ""


def of_organization(organization: Organization, now: datetime) -> Meter:
    """Return what an organization has spent of its monthly quota."""
    label, quota = f"Quota of {now:%B}", organization.terms.monthly_quota
    if quota is None:
        return Meter(label=label, used="None", about="the plan sets none")
    found = OrganizationSpend.objects.filter(pk=organization.id).first()
    spent = _of_month(found, now)
    return _meter(label, spent, quota, about="the whole organization")


def of_key(key: ApiKey, now: datetime) -> list[Meter]:
    """Return what a key has spent: of the rate limit that holds for it, and of its tier's quota where there is one."""
    use = KeyUse.objects.filter(key_id=key.id).first()
    tier = key.tier
    own = None
    if key.rate_limit_requests is not None and key.rate_limit_window_seconds is not None:
        own = RateLimit(key.rate_limit_requests, key.rate_limit_window_seconds)
    limit, source = effective_limit(own, tier.rate_limit if tier else None, key.organization.terms.rate_limit)
    found = [_of_limit(limit, source, use, now)]
    if tier is not None and tier.monthly_quota is not None:
        found.append(
            _meter(f"Quota of {now:%B}", _of_month(use, now), tier.monthly_quota, about=f"tier {tier.name}")
        )
    return found


def spoken_window(seconds: int) -> str:
    """Return a window in its largest whole unit: `a minute`, `10 minutes`, `90 seconds`."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0)
    if seconds == size:
        return f"an {unit}" if unit == "hour" else f"a {unit}"
    return f"{seconds // size} {unit}s"


def counted(label: str, used: int, limit: int | None) -> Meter:
    """Return so many of at most `limit`, None for any number."""
    return Meter(label=label, used=f"{used:,}") if limit is None else _meter(label, used, limit, about="")


def _of_limit(limit: RateLimit | None, source: Source | None, use: KeyUse | None, now: datetime) -> Meter:
    if limit is None or source is None:
        return Meter(label="Rate limit", used="None", about="neither the key nor the plan sets one")
    now_ms = int(now.timestamp() * 1000)
    counted = limits.Window()
    if use is not None:
        counted = limits.Window(use.window_seconds, use.window_start, use.current, use.previous)
    left = limits.remaining(counted.at(limit.window_seconds, now_ms), limit, now_ms)
    about = f"in {spoken_window(limit.window_seconds)}, {_SOURCES[source]}"
    return _meter("Rate limit", limit.requests - left, limit.requests, about=about)


def _of_month(spend: KeyUse | OrganizationSpend | None, now: datetime) -> int:
    return spend.spent if spend is not None and spend.period == limits.period(now) else 0


def _meter(label: str, used: int, limit: int, *, about: str) -> Meter:
    percent = min(used / limit * 100, 100.0) if limit else 100.0
    return Meter(label=label, used=f"{used:,}", limit=f"{limit:,}", percent=percent, about=about)
