"""What the portal counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


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
    group: Any = None


@dataclass(frozen=True)
class Totals:
    """The sums over a whole report."""

    calls: int
    refused: int
    cost: int


@dataclass(frozen=True)
class UsageReport:
    """Calls over time, by group."""

    series: tuple[Series, ...]
    totals: Totals


@dataclass(frozen=True)
class LastUse:
    """A key's last use."""

    at: datetime | None = None
    ip: str | None = None
    region: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True)
class KeyUsage:
    """What a key was used for in the current period."""

    requests_current_period: int
    period: Any = None
    by_outcome: Any = field(default_factory=dict)
    error_rate: float | None = None
    last_used: LastUse | None = None
    by_endpoint: Any = ()
    by_region: Any = ()
