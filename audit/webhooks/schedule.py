"""When a delivery is tried: ten attempts over three days (spec EVENTS, Webhooks). Pure.

Each of EVENTS' times is the wait after the attempt before it, as in the Standard Webhooks specification's own example:
the last attempt is 75½ hours after the first.
"""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

DELAYS: Final = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
JITTER: Final = 0.1
LONGEST_RETRY_AFTER: Final = timedelta(hours=24)


def next_attempt(
    attempts: int, now: datetime, *, jitter: float, retry_after: timedelta | None = None
) -> datetime | None:
    """Return when to try again after `attempts` failures, None after the last of them.

    `jitter` is a random number from -1 to 1, which moves the wait by up to a tenth. What the receiver asked for in
    `retry_after` counts up to 24 h where it is later than that, never where it is sooner: nobody is called more often
    for asking.
    """
    if attempts >= len(DELAYS):
        return None
    wait = DELAYS[attempts] * (1 + JITTER * jitter)
    if retry_after is not None:
        wait = max(wait, min(retry_after, LONGEST_RETRY_AFTER))
    return now + wait


def retry_after(header: str, now: datetime) -> timedelta | None:
    """Read `Retry-After`: seconds or an HTTP date (RFC 9110 §10.2.3); None where it is neither, or past."""
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:7])), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return wait if wait > timedelta(0) else None
