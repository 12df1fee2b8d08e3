"""What the portal counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class Point:
    """The calls of one interval that begins at `at`."""

    at: datetime
    calls: int
    refused: int
    cost: int


@dataclass(frozen=True)
class Series:
    """The points of one group; `group` is None where nothing was grouped by."""

    points: tuple[Point, ...]
    group: str | None = None


@dataclass(frozen=True)
class UnknownCalls:
    """Calls with what is no key, or none that the verifier may know of: no series has them."""

    malformed: int
    not_found: int


@dataclass(frozen=True)
class Totals:
    """The sums over a whole report; `unknown` is None where it was narrowed to what unknown calls don't have."""

    calls: int
    refused: int
    cost: int
    unknown: UnknownCalls | None = None


@dataclass(frozen=True)
class UsageReport:
    """Calls in whole intervals, from `since` up to but without `until`; the group with the most calls first.

    Args:
        interval: `minute`, `hour` or `day`.
    """

    series: tuple[Series, ...]
    totals: Totals
    since: datetime | None = field(default=None, metadata={"name": "from"})
    until: datetime | None = field(default=None, metadata={"name": "to"})
    interval: str = ""


@dataclass(frozen=True)
class Period:
    """A calendar month in UTC, from `start` up to but without `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class LastUse:
    """A key's last use."""

    at: datetime
    ip: str | None = None
    region: str = ""
    user_agent: str = ""


@dataclass(frozen=True)
class KeyUsage:
    """What a key was used for in the current period.

    Args:
        by_outcome, by_endpoint, by_region: calls.
        error_rate: refused of all, 0 to 1.
        last_used: the last valid use.
    """

    requests_current_period: int
    period: Period
    by_outcome: Mapping[str, int] = field(default_factory=dict)
    error_rate: float = 0.0
    last_used: LastUse | None = None
    by_endpoint: Mapping[str, int] = field(default_factory=dict)
    by_region: Mapping[str, int] = field(default_factory=dict)
