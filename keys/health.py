"""What about a key deserves a look, by its own facts, its calls as they were counted, and the time. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from keys.models.finding import Finding
from keys.usage.answers import Health
from keys.verdict import expires_soon

IDLE_AFTER: Final = timedelta(days=90)
# So many refused calls in 30 days, and at least so large a share of all, are many.
MANY_REFUSED: Final = 20
LARGE_SHARE: Final = 0.1
# From more networks (/24, /56) than these in 30 days: many places hold the secret, and one that is stolen stays unseen.
MANY_NETWORKS: Final = 10
# A key without a call is no finding in its first days: somebody is about to use it.
NEW_FOR: Final = timedelta(days=7)
# Filters that an index answers, beside `Finding`.
NEVER_USED: Final = "never_used"
NO_EXPIRY: Final = "no_expiry"
NOTHING: Final = Health(calls=0, refused=0, regions=0, networks=0, unused_scopes=())


class Badge(StrEnum):
    """A mark of a key that has not ended (spec PAGES, Keys), declared from the most pressing."""

    EXPIRES_SOON = "expires_soon"
    IDLE = "idle"
    MANY_REFUSALS = "many_refusals"
    NEVER_USED = "never_used"
    SHARED = "shared"
    UNUSED_SCOPES = "unused_scopes"
    NO_EXPIRY = "no_expiry"


@dataclass(frozen=True, slots=True)
class Mark:
    """A badge in words: the few that stand in a list, and what they mean and ask for."""

    badge: Badge
    words: str
    about: str


def badges(
    *,
    created_at: datetime,
    expires_at: datetime | None,
    last_used_at: datetime | None,
    now: datetime,
    counts: Health = NOTHING,
) -> tuple[Badge, ...]:
    """Return the marks of a key that has not ended, the most pressing first.

    Expires soon: within 7 days. Idle: not used for 90 days, whether it ever was or not. Many refusals: 20 calls in 30
    days, and every tenth. Shared: valid calls from more than one region in 30 days. Unused scopes: of a key that is
    used, those that no call has asked for in 30 days.
    """
    marks = {
        Badge.EXPIRES_SOON: expires_soon(expires_at, now),
        Badge.IDLE: now - idle_since(created_at, last_used_at) >= IDLE_AFTER,
        Badge.MANY_REFUSALS: counts.refused >= MANY_REFUSED and (counts.refused_share or 0) >= LARGE_SHARE,
        Badge.NEVER_USED: last_used_at is None,
        Badge.SHARED: counts.regions > 1,
        Badge.UNUSED_SCOPES: bool(counts.unused_scopes) and counts.calls > counts.refused,
        Badge.NO_EXPIRY: expires_at is None,
    }
    return tuple(badge for badge, is_so in marks.items() if is_so)


def findings(
    badges_of: Collection[Badge], *, networks: int, has_owner: bool, is_within_plan: bool
) -> frozenset[Finding]:
    """Return what of a running key is kept for the hygiene page and for filters, because no index answers it.

    Args:
        badges_of: the key's, by which three are decided.
        networks: from how many its valid calls of 30 days came.
        has_owner: whether a team's name or a present member stands for it.
        is_within_plan: whether its own limit or tier is no more than its organization's plan gives today.
    """
    found = {
        Finding.MANY_REFUSED: Badge.MANY_REFUSALS in badges_of,
        Finding.REGIONS: Badge.SHARED in badges_of,
        Finding.UNUSED_SCOPES: Badge.UNUSED_SCOPES in badges_of,
        Finding.NETWORKS: networks > MANY_NETWORKS,
        Finding.NO_OWNER: not has_owner,
        Finding.ABOVE_PLAN: not is_within_plan,
    }
    return frozenset(finding for finding, is_so in found.items() if is_so)


def mark(badge: Badge, counts: Health, idle: timedelta) -> Mark:
    """Return a badge in words; `idle` is how long the key has not been used."""
    words, about = _WORDS[badge](counts, idle)
    return Mark(badge, words, about)


def idle_since(created_at: datetime, last_used_at: datetime | None) -> datetime:
    """Return since when a key has not been used: its last use, else its making."""
    return last_used_at or created_at


def _refused(counts: Health, _idle: timedelta) -> tuple[str, str]:
    share = f"{100 * (counts.refused_share or 0):.0f} %"
    return f"{share} refused", (
        f"{counts.refused:,} of its {counts.calls:,} calls in the last 30 days were refused. "
        "Whatever calls with it may ask for more than it may do, or more often."
    )


def _unused(counts: Health, _idle: timedelta) -> tuple[str, str]:
    number, names = len(counts.unused_scopes), ", ".join(counts.unused_scopes[:5])
    more = f" and {number - 5} more" if number > 5 else ""  # noqa: PLR2004 - as many as are named
    return f"{number} unused scope{'' if number == 1 else 's'}", (
        f"No call has asked for {names}{more} in the last 30 days. What it does not need, it should not carry."
    )


_WORDS: Final[Mapping[Badge, Callable[[Health, timedelta], tuple[str, str]]]] = {
    Badge.EXPIRES_SOON: lambda _counts, _idle: (
        "Expires soon",
        "It ends within 7 days. Rotate it, and what uses it goes on.",
    ),
    Badge.IDLE: lambda _counts, idle: (
        f"Idle {idle.days} days",
        "Nothing has used it for 90 days or longer. Disable it to see whether anybody misses it.",
    ),
    Badge.MANY_REFUSALS: _refused,
    Badge.NEVER_USED: lambda _counts, _idle: (
        "Never used",
        "No call with it has been accepted yet.",
    ),
    Badge.SHARED: lambda counts, _idle: (
        f"{counts.regions} regions",
        f"Its calls of the last 30 days came from {counts.regions} regions. A key of its own for each can be "
        "rotated and revoked alone.",
    ),
    Badge.UNUSED_SCOPES: _unused,
    Badge.NO_EXPIRY: lambda _counts, _idle: (
        "No expiry",
        "It works until somebody revokes it. Give it an expiry or an interval of rotation.",
    ),
}
