"""Break-glass, as it is read: which keys a filter would take, and what they carry (spec KEYS §6). Changes nothing."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Count, F, Q

from audit.entry import format_time
from keys import access, listing, usage
from keys.callers import Caller
from keys.errors import Invalid, TakesTooLong
from keys.listing import Filters
from keys.models import ApiKey, ApiKeyQuerySet
from keys.models.key import Status
from orgs.models import Environment, Project, User

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
STEP: Final = 1_000
TOLD_APART: Final = 500
# Comes after every id, for a count that had nothing to count.
LAST: Final = "key_" + "z" * 20
# What can be revoked is not revoked yet: an expired key too, because an older secret of it may still be accepted.
STATUSES: Final = (Status.ACTIVE, Status.DISABLED, Status.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How much a filter would take. `used_1h`: keys that were in use within the last hour."""

    keys: int
    projects: int
    production: int
    disabled: int
    expired: int
    used_1h: int
    used_24h: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A key that would go or went, with its last day. `calls_24h` is None where there was too much to count."""

    id: str
    name: str
    calls_24h: int | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How far the calls of very many keys are counted. It travels in the page's address, and decides nothing.

    `done` keys of `total`, up to the id `after`; `busy` of them had `calls`. `is_exact`: none were too many to count.
    """

    total: int
    done: int = 0
    busy: int = 0
    calls: int = 0
    after: str = ""
    is_exact: bool = True

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Counting":
        """Read an address's query."""
        numbers = {name: _number(given.get(name, "")) for name in ("total", "done", "busy", "calls")}
        after = given.get("after", "")
        return cls(
            **numbers, after=after if listing.ID.fullmatch(after) else "", is_exact="lost" not in given
        )

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to count."""
        return bool(self.after) and self.done >= self.total

    @property
    def query(self) -> str:
        """What goes on counting from here."""
        names = ("total", "done", "busy", "calls", "after")
        lost = [] if self.is_exact else [("lost", "1")]
        return urlencode([*((name, getattr(self, name)) for name in names), *lost])

    @property
    def an_hour(self) -> int:
        """How many calls an hour fail, as far as the last day tells."""
        return -(-self.calls // 24)


def check(filters: Filters, *, is_whole: bool = False) -> None:
    """Refuse a filter that says nothing, or speaks of a place that there is not: a typing error must not look like “0”.

    Args:
        is_whole: the organization itself was named, by the operator; then that is the filter.

    Raises:
        Invalid: an empty filter or one with a NUL (field `filter`); an unknown status, environment or project.
    """
    if filters.is_empty and not is_whole:
        raise Invalid("Say which keys: an empty filter would take them all.", field="filter")
    if listing.has_nul(filters):
        raise Invalid("Some of this text is no text.", field="filter")
    if filters.status and filters.status not in STATUSES:
        raise Invalid(f"A status is one of {', '.join(STATUSES)}.", field="filter.status")
    places = Environment.objects.filter(organization_id=filters.organization_id)
    if filters.environment and not places.filter(slug=filters.environment).exists():
        raise Invalid("There is no such environment.", field="filter.environment")
    projects = Project.objects.of(filters.organization_id)
    if filters.project and not projects.filter(pk=filters.project).exists():
        raise Invalid("There is no such project.", field="filter.project")


def matching(filters: Filters, actor: Caller, now: datetime) -> ApiKeyQuerySet:
    """Return the keys that would go: within the caller's reach, matched by the filter, not revoked.

    Raises:
        Forbidden: the caller may not break the glass at all.
    """
    reached = access.keys_to_break(actor, filters.organization_id)
    return listing.apply(reached, filters, now).filter(revoked_at__isnull=True)


def reach(found: ApiKeyQuerySet, now: datetime) -> Reach:
    """Count what would go, in one statement."""
    hour, day = now - HOUR, now - DAY
    expired = Q(expires_at__lte=now)
    counts = found.order_by().aggregate(
        keys=Count("pk"),
        projects=Count("project_id", distinct=True),
        production=Count("pk", filter=Q(environment__is_production=True)),
        expired=Count("pk", filter=expired),
        disabled=Count("pk", filter=~expired & (Q(is_disabled=True) | Q(disabled_until__gt=now))),
        used_1h=Count("pk", filter=Q(use__last_used_at__gt=hour)),
        used_24h=Count("pk", filter=Q(use__last_used_at__gt=day)),
    )
    return Reach(**counts)


def carried(found: ApiKeyQuerySet, organization_id: str, now: datetime, *, most: int) -> list[Carried]:
    """Return the keys that would go with what each carried, those with the most calls first, at most so many.

    Two statements and those of `usage.calls_of_day`, whatever the number of keys.
    """
    ids = list(found.order_by().values_list("pk", flat=True))
    calls = calls_of(organization_id, ids, now)
    ids.sort(key=lambda key_id: (-(calls or {}).get(key_id, 0), key_id))
    rows = ApiKey.objects.of(organization_id).select_related("use").in_bulk(ids[:most])
    return [
        Carried(
            id=key_id,
            name=rows[key_id].name,
            calls_24h=None if calls is None else calls.get(key_id, 0),
            last_used_at=rows[key_id].use.last_used_at,
        )
        for key_id in ids[:most]
    ]


def count_on(found: ApiKeyQuerySet, organization_id: str, counting: Counting, now: datetime) -> Counting:
    """Count the calls of the next thousand keys, in order of id; return how far that is."""
    ids = list(found.filter(pk__gt=counting.after).order_by("pk").values_list("pk", flat=True)[: STEP + 1])
    more, ids = len(ids) > STEP, ids[:STEP]
    calls = calls_of(organization_id, ids, now)
    done = counting.done + len(ids)
    return Counting(
        total=max(counting.total, done + 1) if more else done,
        done=done,
        busy=counting.busy + len(calls or {}),
        calls=counting.calls + sum((calls or {}).values()),
        after=ids[-1] if ids else counting.after or LAST,
        is_exact=counting.is_exact and calls is not None,
    )


def busiest(found: ApiKeyQuerySet) -> list[str]:
    """Return the ids of the keys that were used last, at most 500: whose calls are told apart."""
    ordered = found.order_by(F("use__last_used_at").desc(nulls_last=True), "pk")
    return list(ordered.values_list("pk", flat=True)[:TOLD_APART])


def owners(found: ApiKeyQuerySet) -> list[tuple[str, str]]:
    """Return who answers for keys that are not revoked: (member's id or team's name, what to call it), by name."""
    running = found.filter(revoked_at__isnull=True).order_by()
    members = set(running.filter(owner_user__isnull=False).values_list("owner_user_id", flat=True).distinct())
    teams = running.exclude(owner_team="").values_list("owner_team", flat=True).distinct()
    people = [(user.id, str(user)) for user in User.objects.filter(pk__in=members)]
    return sorted([*people, *((team, team) for team in teams)], key=lambda pair: pair[1].casefold())


def calls_of(organization_id: str, key_ids: Collection[str], now: datetime) -> dict[str, int] | None:
    """Return the calls of the last 24 hours by key, None where there are too many to count in time."""
    try:
        return usage.calls_of_day(organization_id, key_ids, now)
    except TakesTooLong:
        return None


def told(filters: Filters, *, is_whole: bool = False) -> dict[str, Any]:
    """Return a filter as the ledger and the incident keep it: by the API's names, without what says nothing."""
    found: dict[str, Any] = {
        "organization": filters.organization_id if is_whole else "",
        "status": filters.status,
        "kind": filters.kind,
        "environment": filters.environment,
        "project": filters.project,
        "owner": filters.owner,
        "scope": filters.scope,
        "tag": [f"{name}:{value}" for name, value in filters.tags],
        "q": filters.search,
        "expires_before": filters.expires_before,
        "unused_since": filters.unused_since,
        "created_before": filters.created_before,
    }
    return {name: _text(value) for name, value in found.items() if value}


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def _text(value: Any) -> Any:
    return format_time(value) if isinstance(value, datetime) else value
