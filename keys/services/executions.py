"""What a service key says that it did, set beside what was approved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import IntegrityError, transaction

from audit import ledger
from audit.acts import Act
from keys import governance
from keys.callers import Caller
from keys.errors import ExecutionConflict, Forbidden, Invalid
from keys.governance import Compared, Decision, Parity, Step, StepState
from keys.models import ApiKey, Approval, Execution
from keys.policy import check_line
from keys.secret import Kind
from keys.services.approvals import MAX_INCIDENT_BYTES, check_digest, check_steps
from keys.services.common import collect

MAX_EXECUTION_BYTES: Final = 128
MAX_RESULT_BYTES: Final = 256
# Of the steps that differ, so many are named in an entry; the page and the API have all of them.
MAX_NAMED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionDraft:
    """An execution as its key reports it; `results` are words of each step, "" where it has none to say."""

    execution: str
    parameters_digest: str
    steps: Sequence[Step]
    results: Sequence[str]
    approval: str = ""
    incident: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A parity trace: what was planned and what was done, line by line."""

    verdict: Parity
    planned_parameters: str | None
    lines: Sequence[Compared]
    planned: Sequence[Step]
    done: Sequence[Step]


def record_execution(draft: ExecutionDraft, *, actor: Caller) -> Execution:
    """Record what a service key did, once for each of its ids; the very same report again returns what is there.

    Writes the execution and the entry `execution.recorded`; where it is not what was approved, also
    `execution.mismatch`.

    Raises:
        Forbidden: no service key, by its own secret.
        Invalid, InvalidMany: a field out of its bounds; a bound key without an approval that was granted to it.
        ExecutionConflict: the key has recorded something else under this id.
    """
    if actor.presented is None or actor.presented.key.kind != Kind.SERVICE:
        raise Forbidden("A service key records its own executions.")
    key = ApiKey.objects.get(pk=actor.presented.key.id)
    with ledger.recording(key.organization_id, actor) as entry:
        made = _checked(draft, key, actor)
        found = trace(made)
        made.verdict = found.verdict
        try:
            with transaction.atomic():
                made.save(force_insert=True)
        except IntegrityError as error:
            if "execution_once" not in str(error):
                raise
            return _again(made)
        data = _facts(made, key)
        entry(Act.EXECUTION_RECORDED, target=made.id, data=data | {"steps": len(made.steps)})
        if made.verdict == Parity.MISMATCH:
            entry(Act.EXECUTION_MISMATCH, target=made.id, data=data | _differences(found, made))
    return Execution.objects.select_related("key", "approval").get(pk=made.pk)


def trace(execution: Execution) -> Trace:
    """Return the parity trace of an execution, read with its approval."""
    approval = execution.approval
    planned, done = approval.planned if approval else [], execution.done
    lines = governance.compare(planned, done) if planned else ()
    planned_parameters = approval.parameters_digest if approval else None
    verdict = governance.parity(
        lines,
        has_plan=bool(planned),
        planned_parameters=planned_parameters,
        done_parameters=execution.parameters_digest,
    )
    return Trace(
        verdict=verdict, planned_parameters=planned_parameters, lines=lines, planned=planned, done=done
    )


def _checked(draft: ExecutionDraft, key: ApiKey, actor: Caller) -> Execution:
    name, digest, steps, results, incident, request_id, approval = collect(
        [
            lambda: _check_name(draft.execution),
            lambda: check_digest(draft.parameters_digest, "parameters_digest"),
            lambda: check_steps(draft.steps),
            lambda: _check_results(draft.results),
            lambda: check_line(draft.incident, "incident", MAX_INCIDENT_BYTES),
            lambda: check_line(draft.request_id, "request_id", MAX_EXECUTION_BYTES),
            lambda: _approval(draft.approval, key),
        ]
    )
    return Execution(
        organization_id=key.organization_id,
        key=key,
        execution=name,
        approval=approval,
        incident=incident or (approval.incident if approval else ""),
        request_id=request_id or actor.request_id,
        steps=[_step(step, result) for step, result in zip(steps, results, strict=True)],
        parameters_digest=digest,
    )


def _step(step: Step, result: str) -> dict[str, str]:
    told = {"name": step.name, "digest": step.digest}
    return told | {"result": result} if result else told


def _check_name(name: str) -> str:
    found = check_line(name, "execution", MAX_EXECUTION_BYTES).strip()
    if not found:
        raise Invalid("An execution needs an id of its own.", field="execution")
    return found


def _check_results(results: Sequence[str]) -> Sequence[str]:
    for number, result in enumerate(results):
        check_line(result, f"steps[{number}].result", MAX_RESULT_BYTES)
    return results


def _approval(approval_id: str, key: ApiKey) -> Approval | None:
    """Return the approval that an execution names: one of this very key that a person granted, whenever that was."""
    if not approval_id:
        if key.approval_bound:
            raise Invalid("This key is bound to approvals: name the one that was granted.", field="approval")
        return None
    found = Approval.objects.filter(pk=approval_id, key=key).first()
    if found is None:
        raise Invalid("This key has no such approval.", field="approval")
    if found.decision != Decision.GRANTED:
        raise Invalid("This approval was not granted.", field="approval")
    return found


_SAID: Final = ("approval_id", "incident", "steps", "parameters_digest")


def _again(made: Execution) -> Execution:
    """Return what was recorded under the id before, where it says the same.

    A request's id differs with each attempt, unless the reporter names it: it is not part of what was said.
    """
    found = Execution.objects.select_related("key", "approval").get(key=made.key, execution=made.execution)
    if any(getattr(found, name) != getattr(made, name) for name in _SAID):
        raise ExecutionConflict
    return found


def _facts(made: Execution, key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "key": key.id,
        "execution": made.execution,
        "approval": made.approval_id or "",
        "incident": made.incident,
        "parity": str(made.verdict),
        "parameters_digest": made.parameters_digest,
    }


def _differences(found: Trace, made: Execution) -> dict[str, Any]:
    names: dict[str, list[str]] = {}
    for line in found.lines:
        if line.state is not StepState.EQUAL:
            step = found.planned[line.planned] if line.planned is not None else found.done[line.done or 0]
            names.setdefault(line.state.value, []).append(step.name)
    return {
        "differing": sum(len(each) for each in names.values()),
        **{state: each[:MAX_NAMED] for state, each in names.items()},
        "parameters": "changed" if found.planned_parameters != made.parameters_digest else "equal",
    }
