"""What the pages of approvals and executions show: names, states in words, and who decides on what."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Q

from audit import tenancy
from keys import access, clock, governance
from keys.governance import ApprovalState, Bar, Parity, StepState
from keys.models import Approval, Execution
from keys.models.governance import ApprovalQuerySet
from keys.pages import history
from keys.services.approvals import bar_for
from keys.services.executions import Trace
from orgs.members import Member
from orgs.roles import Permission

PAGE_SIZE: Final = 50
MOST_WAITING: Final = 100
STATES: Final = {
    ApprovalState.REQUESTED: ("warn", "Waiting"),
    ApprovalState.GRANTED: ("ok", "Granted"),
    ApprovalState.DENIED: ("bad", "Denied"),
    ApprovalState.EXPIRED: ("off", "Expired"),
    ApprovalState.USED_UP: ("acc", "Used up"),
}
STEPS: Final = {
    StepState.EQUAL: ("ok", "Equal", "check"),
    StepState.MISSING: ("bad", "Missing", "x"),
    StepState.EXTRA: ("bad", "Extra", "plus"),
    StepState.CHANGED: ("warn", "Changed", "alert"),
}
VERDICTS: Final = {
    Parity.EQUAL: ("ok", "As planned"),
    Parity.MISMATCH: ("bad", "Not as planned"),
    Parity.NO_PLAN: ("off", "No plan to compare with"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One approval of a list."""

    approval: Approval
    state: ApprovalState
    by: str
    is_for_you: bool

    @property
    def left(self) -> int:
        """How often it may still be used."""
        return self.approval.uses - self.approval.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, and the cursor of what follows."""

    rows: Sequence[Row]
    older: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a parity trace as it is drawn: what was planned, what was done, and how they compare."""

    planned: str
    planned_digest: str
    done: str
    done_digest: str
    result: str
    tone: str
    label: str
    icon: str


def waiting_for(member: Member) -> int:
    """Return how many requests wait for this very person: not their own, and where they may decide."""
    if not member.may_anywhere(Permission.APPROVALS_GRANT):
        return 0
    # A page outside the organization's transaction has the frame too.
    with tenancy.within(member.organization_id):
        return len(_for(member, waiting(access.approvals(member), clock.now())))


def waiting(approvals: ApprovalQuerySet, now: datetime) -> list[Approval]:
    """Return the requests that nobody has decided on, the soonest to expire first."""
    open_ones = approvals.in_state(ApprovalState.REQUESTED, now)
    # None is older than a day: so the index by time finds them.
    recent = open_ones.filter(requested_at__gt=now - governance.MAX_VALIDITY)
    return list(recent.order_by("valid_until", "id")[:MOST_WAITING])


def rows(approvals: Iterable[Approval], member: Member, now: datetime) -> list[Row]:
    """Return approvals as a list shows them."""
    found = list(approvals)
    names = history.names_of({one.requested_by for one in found})
    mine = {one.id for one in _for(member, found)}
    return [
        Row(
            approval=one,
            state=one.state(now),
            by=names.get(one.requested_by, one.requested_by),
            is_for_you=one.id in mine and one.state(now) is ApprovalState.REQUESTED,
        )
        for one in found
    ]


def page(approvals: ApprovalQuerySet, member: Member, now: datetime, before: Approval | None) -> Page:
    """Return the next approvals, the newest first, behind one of them or from the start."""
    found = approvals.order_by("-requested_at", "-id")
    if before is not None:
        at = before.requested_at
        found = found.filter(Q(requested_at__lt=at) | Q(requested_at=at, id__lt=before.id))
    shown = list(found[: PAGE_SIZE + 1])
    older = shown[PAGE_SIZE - 1].id if len(shown) > PAGE_SIZE else ""
    return Page(rows=rows(shown[:PAGE_SIZE], member, now), older=older)


def bar(member: Member, approval: Approval, now: datetime) -> Bar | None:
    """Return why a person may not decide on a request; None also where nobody has to any more."""
    return bar_for(member, approval) if approval.state(now) is ApprovalState.REQUESTED else None


def pretty(parameters: Any) -> str:
    """Return parameters as people read them."""
    return json.dumps(parameters, indent=2, ensure_ascii=False, sort_keys=True)


def lines(found: Trace, execution: Execution) -> list[Line]:
    """Return a parity trace as it is drawn."""
    drawn = []
    for line in found.lines:
        planned = found.planned[line.planned] if line.planned is not None else None
        done = execution.steps[line.done] if line.done is not None else {}
        tone, label, icon = STEPS[line.state]
        drawn.append(
            Line(
                planned=planned.name if planned else "",
                planned_digest=planned.digest if planned else "",
                done=done.get("name", ""),
                done_digest=done.get("digest", ""),
                result=done.get("result", ""),
                tone=tone,
                label=label,
                icon=icon,
            )
        )
    return drawn


def _for(member: Member, approvals: Iterable[Approval]) -> list[Approval]:
    """Return those that a person may decide on, as far as a list tells: the page of each asks once more."""
    return [
        one
        for one in approvals
        if member.user.id != one.requested_by
        and member.user.id not in one.behind
        and member.may(Permission.APPROVALS_GRANT, one.key.project)
    ]
