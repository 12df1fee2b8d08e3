"""What is asked of usage, and over which buckets of time it is answered. Pure: no database, `now` passed in."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.errors import Invalid
from keys.models.usage import Grain

MAX_BUCKETS: Final = 2_000
MAX_POINTS: Final = 10_000
DAY: Final = timedelta(days=1)
MAX_YEARS: Final = timedelta(days=3_660)
# Endpoints beyond an organization's first 1,000 of a day, and groups beyond the `top` ones.
OTHER: Final = "other"
WIDTHS: Final = {
    Grain.MINUTE: timedelta(minutes=1),
    Grain.HOUR: timedelta(hours=1),
    Grain.DAY: timedelta(days=1),
}
# How long roll-ups are kept; days as long as the plan says.
KEPT: Final = {Grain.MINUTE: timedelta(days=7), Grain.HOUR: timedelta(days=400)}
# Where nobody chose an interval: minutes up to this range, hours up to that, then days.
_BY_MINUTE: Final = timedelta(hours=6)
_BY_HOUR: Final = timedelta(days=14)


class GroupBy(StrEnum):
    """What calls are told apart by, and narrowed to."""

    KEY = "key"
    ORGANIZATION = "organization"
    ENDPOINT = "endpoint"
    REGION = "region"
    OUTCOME = "outcome"
    ENVIRONMENT = "environment"
    PROJECT = "project"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Args:
        organization_id: whose keys were called; None for every organization's, which only `tenancy.everywhere` shows.
        since, until: from the one, up to but without the other. Buckets that they cut are counted whole.
        interval: the width of a bucket; None chooses one by the range.
        group_by: what the series are told apart by: ids of keys, projects and organizations, slugs of environments,
            codes of outcomes; None for one series.
        filters: all must hold, each by any of its values. A project counts with those below it.
        project_ids: those that the reader reaches; None for all.
        top: so many groups at most, those with the most calls; the rest is one series, `OTHER`. None keeps all.
    """

    organization_id: str | None
    since: datetime
    until: datetime
    interval: Grain | None = None
    group_by: GroupBy | None = None
    filters: Mapping[GroupBy, Collection[str]] = field(default_factory=dict)
    project_ids: Collection[str] | None = None
    top: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Whole buckets of one width, in UTC: from `since` up to but without `until`."""

    grain: Grain
    since: datetime
    until: datetime

    @property
    def buckets(self) -> list[datetime]:
        """Return the start of each bucket."""
        width = WIDTHS[self.grain]
        return [self.since + width * number for number in range((self.until - self.since) // width)]

    @property
    def weeks(self) -> tuple[datetime, datetime]:
        """Return from when up to when whole weeks (from Monday, UTC) of whole days are in it; both its end where none.

        Not of hours: days may be kept longer than they, and tell of more.
        """
        first = self.since + DAY * (-self.since.weekday() % 7)
        last = self.until - DAY * self.until.weekday()
        return (first, last) if self.grain is Grain.DAY and first < last else (self.until, self.until)


def window(question: Question, now: datetime) -> Window:
    """Return the buckets that a question asks for.

    Raises:
        Invalid: no range at all or one that is too long (`to`), too many buckets, or an interval that is not kept for
            so long (`interval`).
    """
    if question.since >= question.until:
        raise Invalid("The range ends before it begins.", field="to")
    if question.until - question.since > MAX_YEARS or question.until > now + MAX_YEARS:
        raise Invalid("The range is too long.", field="to")
    grain = question.interval or _fitting(question, now)
    width = WIDTHS[grain]
    since, until = floor(question.since, grain), floor(question.until, grain)
    found = Window(grain, since, until if until == question.until else until + width)
    if grain in KEPT and found.since < now - KEPT[grain] - width:
        message = (
            f"By the {grain.label}, calls are kept for {KEPT[grain].days} days: choose a wider interval."
        )
        raise Invalid(message, field="interval")
    if (found.until - found.since) // width > MAX_BUCKETS:
        message = f"More than {MAX_BUCKETS:,} points: choose a wider interval or a shorter range."
        raise Invalid(message, field="interval")
    return found


def floor(time: datetime, grain: Grain) -> datetime:
    """Return the start of the bucket that a time is in."""
    time = time.astimezone(UTC).replace(second=0, microsecond=0)
    if grain is Grain.MINUTE:
        return time
    return time.replace(minute=0) if grain is Grain.HOUR else time.replace(hour=0, minute=0)


def month(now: datetime) -> datetime:
    """Return the start of the calendar month in UTC: the period of quotas."""
    return floor(now, Grain.DAY).replace(day=1)


def month_end(now: datetime) -> datetime:
    """Return the start of the next calendar month in UTC."""
    return (month(now) + timedelta(days=32)).replace(day=1)


def _fitting(question: Question, now: datetime) -> Grain:
    span, age = question.until - question.since, now - question.since
    if span <= _BY_MINUTE and age < KEPT[Grain.MINUTE]:
        return Grain.MINUTE
    return Grain.HOUR if span <= _BY_HOUR and age < KEPT[Grain.HOUR] else Grain.DAY
