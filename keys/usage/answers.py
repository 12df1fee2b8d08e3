"""What reading usage answers with: plain values, nothing of them secret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from keys.usage.questions import GroupBy, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """`calls`: all of them; `refused`: those whose code is not VALID; `cost`: what the valid ones spent."""

    calls: int = 0
    refused: int = 0
    cost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Totals):
    """One bucket, which starts `at`."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One group's part of all calls; `group` is None where none was asked."""

    group: str | None
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Series(Share):
    """One group's points, one for each bucket of the window, zeros included."""

    points: Sequence[Point]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The series with the most calls first (`OTHER` last), their totals, and the buckets that were counted."""

    series: Sequence[Series]
    totals: Totals
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What a page shows, of one snapshot: a report by outcome, and the same calls shared out by each grouping asked.

    Of each grouping those with the most calls first, `OTHER` last; their totals add up to the report's.
    """

    by_outcome: Report
    shares: Mapping[GroupBy, Sequence[Share]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUsed:
    """A key's last valid use; `region` and `user_agent` are empty where they were not given or are past keeping."""

    at: datetime
    ip: str | None
    region: str
    user_agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One key's current period, the calendar month in UTC from `period_start` up to `period_end`.

    `by_outcome`, `by_endpoint`, `by_region`: calls, most first; of the last two the first 50, then `other`.
    `error_rate`: refused ÷ calls, 0 to 1; 0 without calls.
    """

    requests_current_period: int
    period_start: datetime
    period_end: datetime
    by_outcome: Mapping[str, int]
    error_rate: float
    last_used: LastUsed | None
    by_endpoint: Mapping[str, int]
    by_region: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """So many calls, and when the last one was; `last_at` to the minute where only the roll-up knows."""

    calls: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What some keys carried since a time. A key without calls is missing in `by_key`.

    Most calls first; of endpoints, regions and addresses at most 50 (`other` is not told apart). `by_ip` counts each
    key's latest 500 calls alone, `are_ips_complete` tells whether those were all: a busy key has millions.
    """

    calls: int
    by_key: Mapping[str, Seen]
    by_endpoint: Mapping[str, Seen]
    by_region: Mapping[str, Seen]
    by_ip: Mapping[str, Seen]
    are_ips_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Calls that an organization's verifiers made with what is no key: counted, never kept.

    `by_network`: `203.0.113.0/24`, an IPv6 /56, "" where no address was given, or `other`; most first, at most 50.
    """

    malformed: int
    not_found: int
    by_network: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The facts behind a key's badges, over the last 30 days.

    `regions`: how many named regions its valid calls came from. `networks`: how many networks (/24, /56) among its
    latest 100 calls of the last 7 days. `refused_share`: 0 to 1, None without calls. `unused_scopes`: those it
    carries and no valid call asked for; none for a key younger than 30 days, or of which no call asked for any.
    """

    calls: int
    refused: int
    regions: int
    networks: int
    unused_scopes: tuple[str, ...]

    @property
    def refused_share(self) -> float | None:
        return self.refused / self.calls if self.calls else None
