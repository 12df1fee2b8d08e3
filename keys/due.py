"""When a key is spoken of before it ends, and when it rotates by itself. Spec EVENTS, Notices and Auto-rotation.

Pure: the job that asks may come late, twice or after a clock jumped; what it is to do follows from the rows alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from keys.errors import Invalid

MAX_NOTICES: Final = 5
MAX_NOTICE_DAYS: Final = 365
# The place of `key.expired` among the thresholds.
AT_THE_END: Final = 0
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at a key's coming end finds.

    Args:
        tell: how many days before the end to speak of now; 0 says that it has ended; None: nothing to say.
        pass_over: thresholds that have passed as well and are never spoken of any more.
        next_at: when to look again; None: never.
    """

    tell: int | None
    pass_over: tuple[int, ...]
    next_at: datetime | None


def check_notice_days(days: Collection[int]) -> list[int]:
    """Return the thresholds in falling order.

    Raises:
        Invalid: not 1 to 5 different whole numbers from 1 to 365 (field `notice_days`).
    """
    if not 1 <= len(days) <= MAX_NOTICES or len(set(days)) != len(days):
        raise Invalid(f"Give 1 to {MAX_NOTICES} different numbers of days.", field="notice_days")
    if not all(1 <= one <= MAX_NOTICE_DAYS for one in days):
        raise Invalid(f"Each is 1 to {MAX_NOTICE_DAYS} days.", field="notice_days")
    return sorted(days, reverse=True)


def look(
    *,
    expires_at: datetime,
    thresholds: Sequence[int],
    settled: Collection[int],
    is_stopped: bool,
    now: datetime,
) -> Look:
    """Return what is to be said of the end of a secret, and when to look again.

    Of several thresholds that have passed unspoken (a key made with five days to live, a worker that was down) only
    the nearest is spoken of; none once a nearer one was, and none once the end has come.

    Args:
        expires_at: the newest secret's.
        thresholds: the organization's days.
        settled: those that were told of this very end, or passed over; 0 where its coming was told.
        is_stopped: disabled without end: nobody is warned of what works no more, but the end itself is told.
        now: the present.
    """
    passed = [days for days in thresholds if expires_at - days * _DAY <= now and days not in settled]
    if expires_at <= now:
        return Look(tell=None if AT_THE_END in settled else AT_THE_END, pass_over=tuple(passed), next_at=None)
    if is_stopped:
        return Look(tell=None, pass_over=(), next_at=expires_at)
    nearest = min(passed, default=None)
    if nearest is not None and any(AT_THE_END < days < nearest for days in settled):
        nearest = None
    ahead = [expires_at - days * _DAY for days in thresholds if expires_at - days * _DAY > now]
    return Look(
        tell=nearest,
        pass_over=tuple(days for days in passed if days != nearest),
        next_at=min(ahead, default=expires_at),
    )


def days_left(expires_at: datetime, now: datetime) -> int:
    """Return the days until then, a begun one counted: a notice at seven days that comes a minute late says seven."""
    return max(0, -((now - expires_at) // _DAY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The next rotation that a key makes by itself: when, and for how long the old secret then lives on."""

    at: datetime
    grace_seconds: int


def next_turn(
    *, made_at: datetime, expires_at: datetime | None, interval_days: int, grace_seconds: int
) -> Turn:
    """Return when a key with auto-rotation rotates next: a grace before its interval is over.

    A secret that expires before that is rotated a grace before its expiry instead, or it would die while waiting.
    The grace is at most half of the time between: an interval of one day rotates every twelve hours.

    Args:
        made_at, expires_at: of the newest secret.
        interval_days: the key's rotation interval.
        grace_seconds: what the organization's policy says.
    """
    end = made_at + interval_days * _DAY
    if expires_at is not None:
        end = min(end, expires_at)
    grace = max(timedelta(seconds=1), min(timedelta(seconds=grace_seconds), (end - made_at) / 2))
    return Turn(at=end - grace, grace_seconds=int(grace.total_seconds()))
