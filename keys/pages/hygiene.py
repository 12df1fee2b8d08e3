"""The hygiene of the keys that somebody sees: what deserves a look, how often it occurs, and why it matters."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keys import access, checkup, health, listing
from keys.forms.listing import Listing
from keys.models import Finding
from orgs.members import Member

# So many are counted and no more: beyond, the number itself tells nothing new.
COUNTED: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question that is asked of every running key: by which filter, and why whoever answers yes deserves a look.

    `fine` is what is said where no key does.
    """

    name: str
    title: str
    fine: str
    why: str
    icon: str
    view: Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A check and how many keys it takes, of all that run; `url` leads to them."""

    check: Check
    number: int
    total: int

    @property
    def url(self) -> str:
        """The Keys page with these keys alone."""
        return self.check.view.url()

    @property
    def count(self) -> str:
        """The number in words."""
        return f"{COUNTED:,}+" if self.number > COUNTED else f"{self.number:,}"

    @property
    def percent(self) -> float:
        """Their share of all that run, 0 to 100; something is never drawn as nothing."""
        share = 100 * self.number / self.total if self.total else 0.0
        return max(share, 1.0) if self.number else 0.0

    @property
    def level(self) -> str:
        """How much of all it is, as a colour's name."""
        if not self.number:
            return ""
        return "bad" if self.percent >= 50 else "warn"  # noqa: PLR2004 - half of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every check: those that found something, the most keys first, and those that did not.

    `looked_at` is when the worker last looked for what no index answers; None where it never did.
    """

    total: int
    found: tuple[Result, ...]
    clean: tuple[Result, ...]
    looked_at: datetime | None

    @property
    def checks(self) -> int:
        """How many checks there are."""
        return len(self.found) + len(self.clean)


CHECKS: Final = (
    Check(
        name="idle",
        title="Not used for 90 days",
        fine="All used within 90 days",
        why="Nobody would notice if somebody else used it. Disable it, see whether anybody misses it, then revoke it.",
        icon="pause",
        view=Listing(unused="90"),
    ),
    Check(
        name="never_used",
        title="Never used",
        fine="None that was never used",
        why="Older than 7 days and without a single accepted call. Its secret lies somewhere all the same.",
        icon="clock",
        view=Listing(health=health.NEVER_USED),
    ),
    Check(
        name="no_expiry",
        title="Never expires",
        fine="All expire",
        why="What was copied years ago still works. Give it an expiry, or an interval in which it is rotated.",
        icon="calendar",
        view=Listing(health=health.NO_EXPIRY),
    ),
    Check(
        name="no_owner",
        title="Nobody answers for it",
        fine="Somebody answers for each",
        why="Its owner has left, or nobody was ever named: then nobody hears that it leaked or is about to expire.",
        icon="user",
        view=Listing(health=Finding.NO_OWNER),
    ),
    Check(
        name="regions",
        title="Used in several regions",
        fine="None used in several regions",
        why="One secret in several places can't be rotated or revoked in one of them alone. Give each its own key.",
        icon="globe",
        view=Listing(health=Finding.REGIONS),
    ),
    Check(
        name="networks",
        title=f"Used from more than {health.MANY_NETWORKS} networks",
        fine=f"None used from more than {health.MANY_NETWORKS} networks",
        why="So many in 30 days hide the one that should not be there. Split it, or list the addresses it may use.",
        icon="layers",
        view=Listing(health=Finding.NETWORKS),
    ),
    Check(
        name="refused",
        title="Refused often",
        fine="None refused often",
        why="At least every tenth call of 30 days was refused: something asks for more than it may, or more often.",
        icon="ban",
        view=Listing(health=Finding.MANY_REFUSED),
    ),
    Check(
        name="unused_scopes",
        title="Scopes that nothing asks for",
        fine="No scopes that nothing asks for",
        why="For 30 days no call needed them, and whoever steals the key gets them too. The key's page drops them.",
        icon="shield-check",
        view=Listing(health=Finding.UNUSED_SCOPES),
    ),
    Check(
        name="above_plan",
        title="Limit above the plan",
        fine="No limit above the plan",
        why="Its own rate limit is higher than your plan gives today. It holds until somebody changes it.",
        icon="chart",
        view=Listing(health=Finding.ABOVE_PLAN),
    ),
)


def report(member: Member, now: datetime) -> Report:
    """Ask every check of the running keys that a person sees: one statement each, bounded, whatever their number."""
    total = _count(member, Listing(), now)
    results = [
        Result(check=check, number=_count(member, check.view, now) if total else 0, total=total)
        for check in CHECKS
    ]
    found = sorted((one for one in results if one.number), key=lambda one: -one.number)
    return Report(
        total=total,
        found=tuple(found),
        clean=tuple(one for one in results if not one.number),
        looked_at=checkup.looked_at(member.organization_id),
    )


def _count(member: Member, view: Listing, now: datetime) -> int:
    keys = listing.apply(access.keys(member), view.filters(member.organization_id, now), now)
    return keys.order_by()[: COUNTED + 1].count()
