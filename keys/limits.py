"""Exact rate limits and monthly quotas: pure arithmetic on counters that the database holds. Spec KEYS §7.

Windows start at multiples of their length since the epoch. With w the length, e the time elapsed in the window, both in
milliseconds, a call of a cost passes if and only if `current·w + previous·(w - e) + cost·w ≤ limit·w`: whole numbers
throughout, so that two processes never disagree by a rounding.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from orgs.terms import RateLimit

MONTHS: Final = 12
PER_YEAR: Final = 100


class Refusal(StrEnum):
    """Why a call that is valid otherwise may not be made now."""

    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Window:
    """The counters of one key: `current` costs in the window of `seconds` that began at `start` (seconds since the
    epoch), `previous` in the one before. All zero: nothing was ever counted."""

    seconds: int = 0
    start: int = 0
    current: int = 0
    previous: int = 0

    def at(self, seconds: int, now_ms: int) -> "Window":
        """Return the window of `seconds` that `now_ms` lies in, with what has been counted.

        A clock that went back leaves the newest window in force. Where the length has changed, the estimate at this
        moment becomes the current count: else two lengths in turn would be twice the limit.
        """
        start = now_ms // 1000 // seconds * seconds
        if self.seconds != seconds:
            return Window(seconds, start, self._estimate(now_ms), 0)
        if start <= self.start:
            return self
        follows = start == self.start + seconds
        return Window(seconds, start, 0, self.current if follows else 0)

    def elapsed(self, now_ms: int) -> int:
        """Return how many milliseconds of this window have passed, 0 to its length."""
        return min(max(now_ms - self.start * 1000, 0), self.seconds * 1000)

    def _estimate(self, now_ms: int) -> int:
        if not self.seconds:
            return 0
        present = self.at(self.seconds, now_ms)
        length = present.seconds * 1000
        return present.current + -(-present.previous * (length - present.elapsed(now_ms)) // length)


def passes(window: Window, limit: RateLimit, cost: int, now_ms: int) -> bool:
    """Tell whether a call of `cost` passes; a limit of 0 lets nothing through, not even a look."""
    length = window.seconds * 1000
    spent = window.current * length + window.previous * (length - window.elapsed(now_ms))
    return limit.requests > 0 and spent + cost * length <= limit.requests * length


def remaining(window: Window, limit: RateLimit, now_ms: int) -> int:
    """Return the largest cost that passes at this moment, 0 where none does."""
    length = window.seconds * 1000
    spent = window.current * length + window.previous * (length - window.elapsed(now_ms))
    return max(0, (limit.requests * length - spent) // length)


def reset_seconds(window: Window, now_ms: int) -> int:
    """Return the seconds until the next window begins, rounded up."""
    return -(-(window.seconds * 1000 - window.elapsed(now_ms)) // 1000)


def retry_after_seconds(window: Window, limit: RateLimit, cost: int, now_ms: int) -> int | None:
    """Return after how many seconds a refused call would pass if nobody else calls; None where it never would."""
    if cost > limit.requests or limit.requests == 0:
        return None
    length, elapsed = window.seconds * 1000, window.elapsed(now_ms)
    free = limit.requests - cost - window.current
    if free >= 0:
        wait = length - free * length // window.previous - elapsed if window.previous else 0
    else:
        wait = length - elapsed + max(0, length - (limit.requests - cost) * length // window.current)
    return max(1, -(-wait // 1000))


def period(now: datetime) -> int:
    """Return the calendar month in UTC, as `202611`."""
    month = now.astimezone(UTC)
    return month.year * PER_YEAR + month.month


def period_end(number: int) -> datetime:
    """Return when a month ends, in UTC."""
    year, month = divmod(number, PER_YEAR)
    return datetime(year + month // MONTHS, month % MONTHS + 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Spend:
    """What the month `period` has cost so far."""

    period: int = 0
    spent: int = 0

    def at(self, number: int) -> "Spend":
        """Return what has been spent in a month; a clock that went back a month leaves the newer one in force."""
        return self if number <= self.period else Spend(number, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What limits a call: the key's rate limit, its tier's monthly quota, its organization's; None is no bound."""

    rate_limit: RateLimit | None = None
    tier_quota: int | None = None
    organization_quota: int | None = None

    @property
    def counts(self) -> bool:
        """Whether anything has to be counted at all."""
        return self != NO_BOUNDS


NO_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStanding:
    """A key's rate limit as an answer tells it."""

    limit: int
    remaining: int
    window_seconds: int
    reset_seconds: int
    retry_after_seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaStanding:
    """A monthly quota as an answer tells it."""

    limit: int
    used: int
    period_ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What became of one call, and where it leaves its key."""

    refusal: Refusal | None
    rate_limit: RateStanding | None
    quota: QuotaStanding | None


UNCOUNTED: Final = Counted(refusal=None, rate_limit=None, quota=None)


@dataclass(slots=True)
class Meter:
    """The locked counters of a group of calls; each call is admitted or refused in its turn and counted at once.

    `windows` and `tiers` by key, `organizations` by organization; `approvals` are the uses that are spent of each;
    `now_ms` is the database's, taken when all of them were locked.
    """

    now_ms: int
    windows: dict[str, Window] = field(default_factory=dict)
    tiers: dict[str, Spend] = field(default_factory=dict)
    organizations: dict[str, Spend] = field(default_factory=dict)
    approvals: dict[str, int] = field(default_factory=dict)
    moved_keys: set[str] = field(default_factory=set)
    moved_organizations: set[str] = field(default_factory=set)

    @property
    def period(self) -> int:
        """The month of `now_ms`."""
        return period(datetime.fromtimestamp(self.now_ms / 1000, UTC))

    def spend(self, key_id: str, organization_id: str, bounds: Bounds, cost: int) -> Counted:
        """Count one call against all its bounds if it passes all of them, else against none."""
        refusal = None
        window = Window()
        if bounds.rate_limit is not None:
            window = self.windows[key_id].at(bounds.rate_limit.window_seconds, self.now_ms)
            if not passes(window, bounds.rate_limit, cost, self.now_ms):
                refusal = Refusal.RATE_LIMITED
        tier, organization = self._spends(key_id, organization_id)
        if refusal is None and not (
            _fits(tier, bounds.tier_quota, cost) and _fits(organization, bounds.organization_quota, cost)
        ):
            refusal = Refusal.QUOTA_EXCEEDED
        if refusal is None:
            window = replace(window, current=window.current + cost)
            tier, organization = (replace(each, spent=each.spent + cost) for each in (tier, organization))
            self._keep(key_id, organization_id, bounds, window, tier, organization)
        return Counted(
            refusal=refusal,
            rate_limit=self._rate(window, bounds.rate_limit, cost, refusal),
            quota=_tighter(_quota(tier, bounds.tier_quota), _quota(organization, bounds.organization_quota)),
        )

    def _keep(
        self,
        key_id: str,
        organization_id: str,
        bounds: Bounds,
        window: Window,
        tier: Spend,
        organization: Spend,
    ) -> None:
        if bounds.rate_limit is not None:
            self.windows[key_id] = window
            self.moved_keys.add(key_id)
        if bounds.tier_quota is not None:
            self.tiers[key_id] = tier
            self.moved_keys.add(key_id)
        if bounds.organization_quota is not None:
            self.organizations[organization_id] = organization
            self.moved_organizations.add(organization_id)

    def _spends(self, key_id: str, organization_id: str) -> tuple[Spend, Spend]:
        number = self.period
        tier = self.tiers.get(key_id, Spend()).at(number)
        return tier, self.organizations.get(organization_id, Spend()).at(number)

    def _rate(
        self, window: Window, limit: RateLimit | None, cost: int, refusal: Refusal | None
    ) -> RateStanding | None:
        if limit is None:
            return None
        is_limited = refusal is Refusal.RATE_LIMITED
        return RateStanding(
            limit=limit.requests,
            remaining=remaining(window, limit, self.now_ms),
            window_seconds=limit.window_seconds,
            reset_seconds=reset_seconds(window, self.now_ms),
            retry_after_seconds=retry_after_seconds(window, limit, cost, self.now_ms) if is_limited else 0,
        )


def _fits(spend: Spend, quota: int | None, cost: int) -> bool:
    return quota is None or (quota > 0 and spend.spent + cost <= quota)


def _quota(spend: Spend, quota: int | None) -> QuotaStanding | None:
    if quota is None:
        return None
    return QuotaStanding(limit=quota, used=spend.spent, period_ends_at=period_end(spend.period))


def _tighter(one: QuotaStanding | None, other: QuotaStanding | None) -> QuotaStanding | None:
    """Return the quota with the least left."""
    if one is None or other is None:
        return one or other
    return one if one.limit - one.used <= other.limit - other.used else other
