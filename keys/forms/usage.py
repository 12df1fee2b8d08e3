"""What the address of a usage page asks for: the range, the grouping, every filter, read with distrust.

What can't be right is left out, and nothing is repeated that looks like a secret.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from keys import secret
from keys.listing import ID
from keys.models import Grain
from keys.usage import Window
from keys.usage.questions import KEPT, WIDTHS, floor
from keys.verdict import Code

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
RANGES: Final[Mapping[str, timedelta]] = {
    "1h": HOUR,
    "24h": DAY,
    "7d": 7 * DAY,
    "30d": 30 * DAY,
    "90d": 90 * DAY,
}
RANGE_WORDS: Final[Mapping[str, str]] = {
    "1h": "the last hour",
    "24h": "the last 24 hours",
    "7d": "the last 7 days",
    "30d": "the last 30 days",
    "90d": "the last 90 days",
}
DEFAULT_RANGE: Final = "24h"
GROUPS: Final[Mapping[str, str]] = {
    "key": "Key",
    "endpoint": "Endpoint",
    "region": "Region",
    "outcome": "Outcome",
    "environment": "Environment",
    "project": "Project",
}
FILTERS: Final = ("environment", "project", "key", "endpoint", "region", "outcome")
LONGEST: Final = 366 * DAY
# Up to so much time a column stands for a minute, up to so much for an hour, beyond for a day.
_MINUTES_UP_TO: Final = 2 * HOUR
_HOURS_UP_TO: Final = 7 * DAY
_EARLIEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PROJECT: Final = re.compile(r"prj_[a-z2-7]{20}")
_LENGTHS: Final = {"endpoint": 256, "region": 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view of usage. A filter that is None filters nothing; an empty endpoint or region is that of none given.

    `since` and `until` are of a custom range alone. `had_secret`: something that looked like one was left out.
    """

    range: str = DEFAULT_RANGE
    since: datetime | None = None
    until: datetime | None = None
    by: str = "key"
    environment: str | None = None
    project: str | None = None
    key: str | None = None
    endpoint: str | None = None
    region: str | None = None
    outcome: str | None = None
    problem: str = ""
    had_secret: bool = False

    @classmethod
    def of(cls, given: QueryDict, now: datetime) -> Self:
        """Read an address's query; no range begins after `now`."""
        had_secret = any(secret.redact(text) != text for _, texts in given.lists() for text in texts)
        sent = {name: str(given[name]) for name in (*_CHECKS, *_TIMES) if name in given}
        read = {name: text for name, text in sent.items() if name in _CHECKS and _is_right(name, text)}
        plain = cls(had_secret=had_secret)
        return replace(plain, **{**read, **_span(sent, now)})

    def query(self) -> list[tuple[str, str]]:
        """Return names and values of what is not as the plain page has it."""
        plain = View()
        texts = [
            (field.name, _text(getattr(self, field.name)))
            for field in fields(self)
            if field.name not in _UNSAID and getattr(self, field.name) != getattr(plain, field.name)
        ]
        return [(name, text) for name, text in texts if text is not None]

    def url(self, name: str = "keys:usage", *arguments: str) -> str:
        """Return the address of this view; `name` and `arguments` are the URL's."""
        text, path = urlencode(self.query()), reverse(name, args=arguments)
        return f"{path}?{text}" if text else path

    @property
    def csv_url(self) -> str:
        """The address of this view's numbers as CSV."""
        return self.url("keys:usage_csv")

    def but(self, **changes: Any) -> Self:
        """Return this view with something else."""
        return replace(self, **changes)

    def in_range(self, name: str) -> Self:
        """Return this view of another of the ranges that end now."""
        return self.but(range=name, since=None, until=None, problem="")

    def during(self, start: datetime, end: datetime) -> Self:
        """Return this view of a stretch of time."""
        return self.but(range=DEFAULT_RANGE, since=start, until=end, problem="")

    def active(self) -> Iterator[tuple[str, str]]:
        """Yield name and value of each filter that narrows the numbers."""
        for name in FILTERS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def window(self, now: datetime) -> Window:
        """Return the columns: of a range that ends now, the last is the one that `now` is in."""
        if self.since is not None and self.until is not None:
            grain = grain_of(self.since, self.until, now)
            start, end = floor(self.since, grain), floor(self.until, grain)
            return Window(grain, start, end if end >= self.until else end + WIDTHS[grain])
        length = RANGES[self.range]
        grain = grain_of(now - length, now, now)
        end = floor(now, grain) + WIDTHS[grain]
        return Window(grain, end - length, end)

    @property
    def words(self) -> str:
        """The range, as a sentence says it."""
        if self.since is None or self.until is None:
            return RANGE_WORDS[self.range]
        return f"{_moment(self.since)} to {_moment(self.until)} UTC"


def grain_of(start: datetime, end: datetime, now: datetime) -> Grain:
    """Return how wide the columns of a range are: as fine as is still kept of it, and as a page has room for."""
    span, age = end - start, now - start
    if span <= _MINUTES_UP_TO and age < KEPT[Grain.MINUTE]:
        return Grain.MINUTE
    return Grain.HOUR if span <= _HOURS_UP_TO and age < KEPT[Grain.HOUR] else Grain.DAY


def _span(sent: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Return what a custom range sets; of one that makes no sense, why."""
    if not _TIMES & sent.keys():
        return {}
    since, until = _instant(sent.get("since", "")), _instant(sent.get("until", ""))
    problem = ""
    if since is None or until is None:
        problem = "A range of your own needs both its times: from and to."
    elif since >= until:
        problem = "The range ends before it begins."
    elif since >= now:
        problem = "The range has not begun yet."
    elif until - since > LONGEST:
        problem = f"At most {LONGEST.days} days at a time."
    if problem:
        return {"problem": problem}
    return {"since": since, "until": until, "range": DEFAULT_RANGE}


def _instant(text: str) -> datetime | None:
    """Read an instant in UTC, to the minute: `2026-11-20T14:05`; a day alone begins at midnight."""
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at.replace(second=0, microsecond=0) if _EARLIEST <= at < _EARLIEST + 100 * LONGEST else None


def _moment(at: datetime) -> str:
    return f"{at:%-d %b %Y}" if floor(at, Grain.DAY) == at else f"{at:%-d %b %Y, %H:%M}"


def _text(value: object) -> str | None:
    return f"{value:%Y-%m-%dT%H:%M}" if isinstance(value, datetime) else None if value is None else str(value)


def _is_right(name: str, text: str) -> bool:
    return secret.redact(text) == text and bool(_CHECKS[name](text))


def _is_bounded(name: str) -> Any:
    return lambda text: len(text) <= _LENGTHS[name] and (not text or text.isprintable())


_TIMES: Final = frozenset({"since", "until"})
_UNSAID: Final = frozenset({"problem", "had_secret"})
_CHECKS: Final[Mapping[str, Any]] = {
    "range": RANGES.__contains__,
    "by": GROUPS.__contains__,
    "environment": _SLUG.fullmatch,
    "project": _PROJECT.fullmatch,
    "key": ID.fullmatch,
    "endpoint": _is_bounded("endpoint"),
    "region": _is_bounded("region"),
    "outcome": frozenset(Code).__contains__,
}
