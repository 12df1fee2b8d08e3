"""`/v1/executions`: a service key records what it did; the answer sets it beside what was approved."""

import re
from http import HTTPStatus
from typing import Annotated, Final

from django.http import Http404, HttpResponse
from ninja import Router
from pydantic import Field

from keys import access, governance, services
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.approvals import Digest, StepIn
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.requests import Id, Strict, Text
from keys.api.times import Moment
from keys.callers import Caller
from keys.governance import Parity, Step, StepState
from keys.models import Execution
from keys.services.executions import Trace, trace

router = Router(tags=["Approvals"])
ID: Final = re.compile(r"exe_[a-z2-7]{20}")


class DoneIn(StepIn):
    """A step that was done."""

    result: Text = Field(default="", description="In a few words; at most 256 bytes.")


class ExecutionRequest(Strict):
    """What was done."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "execution": "run-2027-01-31-7",
                    "approval": "apr_aaaaaaaaaaaaaaaaaaaa",
                    "parameters_digest": "0" * 64,
                    "steps": [{"name": "drain", "digest": "0" * 64, "result": "ok"}],
                }
            ]
        }
    }

    execution: Text = Field(
        min_length=1, description="Your own id of it; at most 128 bytes, once for each key."
    )
    approval: Id | None = Field(default=None, description="What a bound key was granted.")
    incident: Text = Field(default="", description="At most 128 bytes. Default: the approval's.")
    request_id: Text = Field(default="", description="At most 128 bytes. Default: this request's.")
    parameters_digest: Digest
    steps: Annotated[list[DoneIn], Field(max_length=governance.MAX_STEPS)]


class StepReportOut(Answer):
    """One step as it was reported."""

    name: str
    digest: str
    result: str = ""


class ComparedOut(Answer):
    """One line of the trace; `planned` and `done` are digests, null where the step is not there."""

    name: str
    state: StepState
    planned: str | None
    done: str | None


class ParametersOut(Answer):
    """The digests of the parameters; `planned` is null without an approval."""

    planned: str | None
    done: str


class ParityOut(Answer):
    """What was planned and what was done, side by side; without a plan the steps are not compared."""

    verdict: Parity
    parameters: ParametersOut
    steps: list[ComparedOut]


class ExecutionOut(Answer):
    """An execution and its parity trace."""

    id: str
    key: str
    execution: str
    approval: str | None
    incident: str
    request_id: str
    parameters_digest: str
    steps: list[StepReportOut]
    recorded_at: Moment
    parity: ParityOut


@router.post(
    "/executions",
    auth=Bearer(),
    response={201: ExecutionOut},
    operation_id="record_execution",
    summary="Record an execution",
    openapi_extra=docs.change("", 403, 409, once=True),
)
def execution_record(request: ApiRequest, body: ExecutionRequest) -> HttpResponse:
    """By the service key itself, without a scope. The same id again answers the same, another body with it 409."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, ExecutionOut]:
        return HTTPStatus.CREATED, _presented(services.record_execution(_draft(body), actor=caller))

    return running.change_once(request, act)


@router.get(
    "/executions/{execution_id}",
    auth=Bearer(),
    response=ExecutionOut,
    operation_id="get_execution",
    summary="See an execution",
    openapi_extra=docs.read("", 404),
)
def execution_get(request: ApiRequest, execution_id: str) -> HttpResponse:
    """Your key's own; with the scope `approvals:request`, those of the keys that it sees."""
    check_names(request)

    def act(_caller: Caller) -> ExecutionOut:
        if ID.fullmatch(execution_id) is None:
            raise Http404
        organization_id = request.auth.key.organization_id
        return _presented(access.execution_of_presented(request.auth, organization_id, execution_id))

    return running.read(request, act)


def _draft(body: ExecutionRequest) -> services.ExecutionDraft:
    return services.ExecutionDraft(
        execution=body.execution,
        parameters_digest=body.parameters_digest,
        steps=[Step(step.name, step.digest) for step in body.steps],
        results=[step.result for step in body.steps],
        approval=body.approval or "",
        incident=body.incident,
        request_id=body.request_id,
    )


def _presented(one: Execution) -> ExecutionOut:
    found = trace(one)
    return ExecutionOut(
        id=one.id,
        key=one.key_id,
        execution=one.execution,
        approval=one.approval_id,
        incident=one.incident,
        request_id=one.request_id,
        parameters_digest=one.parameters_digest,
        steps=[
            StepReportOut(name=step["name"], digest=step["digest"], result=step.get("result", ""))
            for step in one.steps
        ],
        recorded_at=one.recorded_at,
        parity=ParityOut(
            verdict=found.verdict,
            parameters=ParametersOut(planned=found.planned_parameters, done=one.parameters_digest),
            steps=_lines(found),
        ),
    )


def _lines(found: Trace) -> list[ComparedOut]:
    lines = []
    for line in found.lines:
        planned = found.planned[line.planned] if line.planned is not None else None
        done = found.done[line.done] if line.done is not None else None
        either = planned or done
        assert either is not None  # noqa: S101 - a line has a step on one side at least
        lines.append(
            ComparedOut(
                name=either.name,
                state=line.state,
                planned=planned.digest if planned else None,
                done=done.digest if done else None,
            )
        )
    return lines
