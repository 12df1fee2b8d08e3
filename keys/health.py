"""What about a key deserves a look, by its own facts and the time alone: no call is counted here. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.verdict import expires_soon

IDLE_AFTER: Final = timedelta(days=90)


class Badge(StrEnum):
    """A mark of a key that has not ended (spec PAGES, Keys), declared from the most pressing."""

    EXPIRES_SOON = "expires_soon"
    IDLE = "idle"
    NEVER_USED = "never_used"
    NO_EXPIRY = "no_expiry"


def badges(
    *, created_at: datetime, expires_at: datetime | None, last_used_at: datetime | None, now: datetime
) -> tuple[Badge, ...]:
    """Return the marks of a key that has not ended, the most pressing first.

    Expires soon: within 7 days. Idle: not used for 90 days, whether it ever was or not.
    """
    marks = {
        Badge.EXPIRES_SOON: expires_soon(expires_at, now),
        Badge.IDLE: now - idle_since(created_at, last_used_at) >= IDLE_AFTER,
        Badge.NEVER_USED: last_used_at is None,
        Badge.NO_EXPIRY: expires_at is None,
    }
    return tuple(badge for badge, is_so in marks.items() if is_so)


def idle_since(created_at: datetime, last_used_at: datetime | None) -> datetime:
    """Return since when a key has not been used: its last use, else its making."""
    return last_used_at or created_at
