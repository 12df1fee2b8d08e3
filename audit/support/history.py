"""What a customer's own ledger says of support visits: who came, when, why, for how long, and what they saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.http import Http404

from audit import access, paging
from audit.acts import Act
from audit.models import Entry, EntryQuerySet, SupportEnd
from audit.ports import Reader

PER_PAGE: Final = 10
# What a visit shows of itself; the log has the rest.
MOST_SEEN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One page that was shown. `about` is the id of what it is about, "" where it is about no one thing."""

    place: tuple[int, int]
    at: datetime
    page: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited:
    """One visit. `who` and `reason` are personal, and empty once they are erased; `ends_at` is when it ended, or will.

    `why` says in words how it ended. `is_search`: searches over all organizations, the operator alone has them.
    """

    place: tuple[int, int]
    at: datetime
    actor: str
    who: str
    reason: str
    is_search: bool
    ends_at: datetime
    is_running: bool
    why: str
    seen: Sequence[Seen]
    has_more: bool

    @property
    def minutes(self) -> int:
        """How long it took, rounded up."""
        return max(1, -int(-(self.ends_at - self.at).total_seconds() // 60))


def visits(member: Reader, query: Mapping[str, str], now: datetime) -> tuple[list[Visited], str]:
    """Return a page of visits, the newest first, and the cursor of the next one, "" at the end.

    Raises `Http404` for whom the whole log is not open. A few queries, and one for each visit, all by index.
    """
    if not member.reads_whole_log:
        raise Http404
    entries = access.entries(member)
    opened = entries.filter(act=Act.SUPPORT_OPENED).newest_first()
    if before := query.get("before", ""):
        opened = opened.before(*paging.read(before))
    page = list(opened[: PER_PAGE + 1])
    shown = page[:PER_PAGE]
    older = paging.written(shown[-1].place) if len(page) > PER_PAGE else ""
    ends = entries.filter(act=Act.SUPPORT_CLOSED, target__in=[entry.target for entry in shown])
    closed = {entry.target: entry for entry in ends}
    found = access.opened(member.organization_id, shown)
    return [_visited(entries, each, closed.get(each.entry.target), now) for each in found], older


def _visited(entries: EntryQuerySet, found: access.Found, closed: Entry | None, now: datetime) -> Visited:
    entry, data = found.entry, found.parsed.data if found.parsed else {}
    ends_at = _time(data.get("expires_at")) or entry.at
    seen = _seen(entries, entry, closed)
    return Visited(
        place=entry.place,
        at=entry.at,
        actor=entry.actor,
        who=found.opened.get("name") or found.opened.get("email") or "",
        reason=found.opened.get("reason", ""),
        is_search=data.get("kind") == "search",
        # What is closed late, by the clock's job, ended when its time was up.
        ends_at=min(ends_at, closed.at) if closed else ends_at,
        is_running=closed is None and now < ends_at,
        why=_why(closed),
        seen=seen[:MOST_SEEN],
        has_more=len(seen) > MOST_SEEN,
    )


def _seen(entries: EntryQuerySet, opened: Entry, closed: Entry | None) -> list[Seen]:
    """Return what a visit shows of itself and perhaps one more, oldest first."""
    between = entries.filter(act=Act.SUPPORT_VIEWED, actor=opened.actor).after(*opened.place)
    if closed is not None:
        between = between.before(*closed.place)
    found = []
    for entry in between.oldest_first()[: MOST_SEEN + 1]:
        data = access.told(entry)
        # What a search over all organizations showed meanwhile is another session's.
        if data.get("session") == opened.target:
            about = entry.target if entry.target not in (opened.organization_id, opened.target) else ""
            found.append(Seen(place=entry.place, at=entry.at, page=str(data.get("page", "")), about=about))
    return found


def _why(closed: Entry | None) -> str:
    told = str(access.told(closed).get("reason", "")) if closed is not None else ""
    return SupportEnd(told).label if told in SupportEnd.values and told else ""


def _time(told: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(told))
    except ValueError:
        return None
