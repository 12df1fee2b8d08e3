"""All that belongs to one incident, or to one request: calls, approvals, executions, entries, in one line of time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.urls import reverse

from audit import access as log
from audit.describe import Line
from keys import access
from keys.governance import Parity
from keys.models import Approval, Call, Execution
from keys.pages import approvals as approval_pages
from keys.pages import history
from keys.verdict import Code
from orgs.members import Member

MOST: Final = 200
_KINDS: Final = {"call": "chart", "approval": "check-circle", "execution": "play", "entry": "scroll"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `kind` is call, approval, execution or entry; `facts` are small print."""

    at: datetime
    kind: str
    title: str
    tone: str
    url: str = ""
    facts: Sequence[str] = field(default_factory=tuple)

    @property
    def icon(self) -> str:
        """The sprite's icon for its kind."""
        return _KINDS[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """What was found, the oldest first; `is_cut` where there is more than is shown."""

    events: Sequence[Event]
    is_cut: bool


def follow(member: Member, now: datetime, *, incident: str = "", request_id: str = "") -> Trail:
    """Return all of one incident, or of one request, as far as the person sees it."""
    named = {"incident": incident} if incident else {"request_id": request_id}
    calls = list(_calls(member, named))
    approvals = list(access.approvals(member).filter(**named).order_by("-requested_at")[: MOST + 1])
    executions = list(access.executions(member).filter(**named).order_by("-recorded_at")[: MOST + 1])
    targets = [*(one.id for one in approvals), *(one.id for one in executions)]
    entries = _entries(member, targets, request_id or incident, is_request=bool(request_id))
    ids = {
        *(call.key_id for call in calls),
        *(one.requested_by for one in approvals),
        *(line.actor for line in entries if not line.is_system),
    }
    names = history.names_of(ids)
    events = [
        *(_of_call(call, names) for call in calls[:MOST]),
        *(_of_approval(one, names, now) for one in approvals[:MOST]),
        *(_of_execution(one) for one in executions[:MOST]),
        *(_of_entry(line, names) for line in reversed(entries[:MOST])),
    ]
    is_cut = any(len(found) > MOST for found in (calls, approvals, executions, entries))
    return Trail(events=sorted(events, key=_when), is_cut=is_cut)


def _when(event: Event) -> datetime:
    """Return when it was, to the millisecond: an entry knows no more, and comes after what it tells of."""
    return event.at.replace(microsecond=event.at.microsecond // 1000 * 1000)


def _calls(member: Member, named: dict[str, str]) -> Any:
    found = Call.objects.filter(organization_id=member.organization_id, **named).exclude(
        **dict.fromkeys(named, "")
    )
    projects = access.visible_projects(member)
    if projects is not None:
        found = found.filter(key_id__in=access.keys(member).values("id"))
    return found.order_by("-at")[: MOST + 1]


def _entries(member: Member, targets: Sequence[str], named: str, *, is_request: bool) -> list[Line]:
    if not member.reads_own_log:
        return []
    found = log.entries(member)
    chosen = found.filter(request_id=named) if is_request else found.filter(target__in=[*targets, named])
    return log.lines(member, list(chosen.newest_first()[: MOST + 1]))


def _of_call(call: Call, names: dict[str, str]) -> Event:
    is_valid = call.code == Code.VALID
    trace = call.trace or {}
    facts = [
        call.endpoint,
        f"region {call.region}" if call.region else "",
        str(call.ip or ""),
        f"request {call.request_id}" if call.request_id else "",
        f"execution {trace['execution']}" if trace.get("execution") else "",
        f"approval {trace['approval']}" if trace.get("approval") else "",
    ]
    return Event(
        at=call.at,
        kind="call",
        title=f"{names.get(call.key_id, call.key_id)} was verified: {call.code}",
        tone="ok" if is_valid else "bad",
        url=reverse("keys:key_usage", args=[call.key_id]) if call.key_id in names else "",
        facts=[fact for fact in facts if fact],
    )


def _of_approval(one: Approval, names: dict[str, str], now: datetime) -> Event:
    tone, label = approval_pages.STATES[one.state(now)]
    return Event(
        at=one.requested_at,
        kind="approval",
        title=f"{names.get(one.requested_by, one.requested_by)} asked for {one.scope}: {label.lower()}",
        tone=tone,
        url=reverse("keys:approval", args=[one.id]),
        facts=[fact for fact in (one.key.name, one.resource) if fact],
    )


def _of_execution(one: Execution) -> Event:
    tone, label = approval_pages.VERDICTS[Parity(one.verdict)]
    return Event(
        at=one.recorded_at,
        kind="execution",
        title=f"{one.key.name} executed {one.execution}: {label.lower()}",
        tone=tone,
        url=reverse("keys:execution", args=[one.id]),
        facts=[f"{len(one.steps)} steps"],
    )


def _of_entry(line: Line, names: dict[str, str]) -> Event:
    return Event(
        at=line.at,
        kind="entry",
        title=line.act,
        tone=line.tone,
        url=reverse("audit:entry", args=[line.place]),
        facts=[fact for fact in (names.get(line.actor, line.who), line.summary) if fact],
    )
