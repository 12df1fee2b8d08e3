"""How a key stands, as answers tell it in headers: its limit (the IETF's structured fields), and its coming end."""

from datetime import datetime

from keys.api.times import as_text
from keys.limits import Counted
from keys.verdict import expires_soon
from keys.verification import Judged

EXPIRES = "Keystead-Key-Expires"


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
    """Return the header that warns within 7 days of the end of a valid key's secret, else nothing."""
    if judged is None or judged.known is None or not judged.verdict.is_valid:
        return {}
    return expiry(judged.known.ends_at, judged.known.row.now)


def expiry(ends_at: datetime | None, now: datetime) -> dict[str, str]:
    """Return the same for a time."""
    return {EXPIRES: as_text(ends_at)} if ends_at is not None and expires_soon(ends_at, now) else {}
