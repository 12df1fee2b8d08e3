"""How a key stands, as answers tell it in headers: its limit (the IETF's structured fields), and its coming end."""

from datetime import datetime

from keys.api.times import as_text
from keys.limits import Counted
from keys.verdict import Code, expires_soon
from keys.verification import Judged

EXPIRES = "Keystead-Key-Expires"
_GOOD = frozenset({Code.VALID, Code.RATE_LIMITED, Code.QUOTA_EXCEEDED})


def limit_headers(counted: Counted) -> dict[str, str]:
    """Return `RateLimit` and `RateLimit-Policy`, and after a refusal `Retry-After`; nothing for a key without limit."""
    rate = counted.rate_limit
    headers = {}
    if rate is not None:
        headers["RateLimit-Policy"] = f'"per-key";q={rate.limit};w={rate.window_seconds}'
        headers["RateLimit"] = f'"per-key";r={rate.remaining};t={rate.reset_seconds}'
    if counted.refusal is not None and rate is not None and rate.retry_after_seconds:
        headers["Retry-After"] = str(rate.retry_after_seconds)
    return headers


def expiry_headers(judged: Judged | None) -> dict[str, str]:
    """Return the header that warns within 7 days of the end of a good key's secret, else nothing.

    Good is also one that has only made too many calls: whoever holds it learns nothing that they may not know.
    """
    if judged is None or judged.known is None or judged.verdict.code not in _GOOD:
        return {}
    return expiry(judged.known.ends_at, judged.known.row.now)


def expiry(ends_at: datetime | None, now: datetime) -> dict[str, str]:
    """Return the same for a time."""
    return {EXPIRES: as_text(ends_at)} if ends_at is not None and expires_soon(ends_at, now) else {}
