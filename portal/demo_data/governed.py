"""The demo's governed execution: a key that asks before it replays, one replay that was granted and went otherwise than
planned in one step, and one that waits for somebody's decision.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from audit import tenancy
from keys import callers, verification
from keys.callers import Caller, Presented
from keys.governance import Decision, Step
from keys.models import Approval
from keys.scopes import all_of
from keys.secret import Mode
from keys.services import (
    ApprovalDraft,
    ExecutionDraft,
    grant_approval,
    record_approval_uses,
    record_execution,
    request_approval,
)
from portal.demo_data.keyspecs import Made, Place

SCOPE: Final = "replay:run"
GRANTED_BY: Final = "alice"
INCIDENT: Final = "INC-2291"
DONE: Final = {"window": "2026-11-20T02:10Z/02:25Z", "to": "shadow-3", "rate": 0.5}
WAITING: Final = {"window": "2026-11-20T02:25Z/02:40Z", "to": "shadow-3", "rate": 1}
PLAN: Final = (
    "snapshot shadow-3",
    "load window",
    "replay at half rate",
    "compare counters",
    "release shadow-3",
)
CHANGED: Final = "replay at half rate"
DAY_SECONDS: Final = 86_400


def ask(made: Iterable[Made], place: Place) -> None:
    """Let each bound key ask twice, and an owner grant the first; inside the organization's transaction."""
    for each in made:
        if each.key.approval_bound:
            first = request_approval(_draft(each, "db-replay-7", DONE, INCIDENT), actor=_itself(each))
            note = "Half the rate, and not during the maintenance window."
            grant_approval(first, actor=place.callers[GRANTED_BY], note=note)
            request_approval(_draft(each, "db-replay-8", WAITING, INCIDENT), actor=_itself(each))


def run(made: Iterable[Made]) -> None:
    """Let each bound key use what it was granted, and tell what it did: one step differs from the plan."""
    for each in made:
        if each.key.approval_bound:
            with tenancy.within(each.key.organization_id):
                approval = Approval.objects.get(key=each.key, decision=Decision.GRANTED)
            _use(each, approval)
            with tenancy.within(each.key.organization_id):
                record_approval_uses(approval.id)
                record_execution(_execution(approval), actor=_itself(each))


def _draft(each: Made, resource: str, parameters: dict[str, Any], incident: str) -> ApprovalDraft:
    return ApprovalDraft(
        key=each.key,
        scope=SCOPE,
        resource=resource,
        reason="Show that the fix drops no flow records: replay the window of the outage against the shadow.",
        parameters=parameters,
        steps=[_step(name) for name in PLAN],
        incident=incident,
        valid=DAY_SECONDS,
        uses=2,
    )


def _step(name: str, what: str = "") -> Step:
    return Step(name, hashlib.sha256(f"{name}{what}".encode()).hexdigest())


def _use(each: Made, approval: Approval) -> None:
    ask_ = verification.Ask(
        query=all_of([SCOPE]),
        ip="203.0.113.24",
        endpoint="POST /v1/replays",
        region="eu-west-2",
        request_id="req_replay_2291",
        trace={"incident": INCIDENT, "approval": approval.id, "execution": "replay-2291-1"},
    )
    presented = verification.credential(each.secret)
    verification.ask(verification.Call(verifier=None, presented=presented, ask=ask_))


def _execution(approval: Approval) -> ExecutionDraft:
    done = [_step(name, " at full rate" if name == CHANGED else "") for name in PLAN]
    return ExecutionDraft(
        execution="replay-2291-1",
        parameters_digest=approval.parameters_digest,
        steps=done,
        results=["ok", "1,204,118 records", "done in 7m 31s", "no difference", "ok"],
        approval=approval.id,
        request_id="req_replay_2291",
    )


def _itself(each: Made) -> Caller:
    key = each.key
    presented = Presented(
        key=key,
        version=key.newest_version,
        project=key.project,
        mode=Mode(key.environment.mode),
        scopes=tuple(key.scopes),
        is_operator=False,
    )
    return callers.of_key(presented, ip="203.0.113.24", user_agent="replay/3.2", request_id="req_replay_2291")
