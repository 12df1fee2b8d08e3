"""`/v1/approvals`: ask for an approval of a bound key, and see what became of it. People decide, on the pages."""

import re
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from django.http import Http404, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field

from audit.paging import by_time
from keys import access, clock, governance, services
from keys.api import docs, running
from keys.api.answers import Answer, PageOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.keys import find
from keys.api.paging import Limit, check_names
from keys.api.problems import invalid
from keys.api.requests import Id, Strict, Text
from keys.api.times import Moment, Time
from keys.callers import Caller
from keys.errors import PersonRequired
from keys.governance import ApprovalState, Step
from keys.models import Approval
from keys.models.governance import ApprovalQuerySet
from keys.policy import ABSENT

router = Router(tags=["Approvals"])
SCOPE: Final = "approvals:request"
ID: Final = re.compile(r"apr_[a-z2-7]{20}")
_DIGEST: Final = r"^[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=_DIGEST, description="SHA-256 in lower-case hexadecimal digits.")]
_DEFAULT_LIMIT: Final = 50


class StepIn(Strict):
    """One step, planned or done."""

    name: Text = Field(min_length=1, description="At most 128 bytes.")
    digest: Digest


class ApprovalRequest(Strict):
    """What a bound key wants to do, once or a few times."""

    model_config = Strict.model_config | {
        "json_schema_extra": {
            "examples": [
                {
                    "scope": "incidents:write",
                    "resource": "db-7",
                    "parameters": {"action": "failover", "to": "db-8"},
                    "steps": [{"name": "drain", "digest": "0" * 64}, {"name": "switch", "digest": "1" * 64}],
                    "reason": "INC-7: the primary is failing",
                    "incident": "INC-7",
                    "valid_for_seconds": 3600,
                }
            ]
        }
    }

    key: Id | None = Field(default=None, description="The bound key's id. Default: the key that asks.")
    scope: Text = Field(description="One that the key carries, of risk write or admin.")
    resource: Text = Field(default="", description="On what; at most 128 bytes.")
    parameters: Any = Field(
        default=None,
        description="Any JSON, at most 8,192 bytes of it in canonical form; whoever decides sees it.",
    )
    parameters_digest: Digest | None = Field(
        default=None,
        description="SHA-256 of the parameters' JCS (RFC 8785): needed without them, checked with them.",
    )
    steps: list[StepIn] = Field(
        default_factory=list,
        max_length=governance.MAX_STEPS,
        description="The plan, which the execution will be compared with.",
    )
    reason: Text = Field(min_length=1, description="At most 1,000 bytes.")
    incident: Text = Field(default="", description="At most 128 bytes.")
    valid_for_seconds: int | None = Field(
        default=None,
        ge=60,
        le=86_400,
        description="From now; an hour unless told. The organization's policy may allow less than a day.",
    )
    valid_until: Time | None = Field(default=None, description="Instead of `valid_for_seconds`.")
    uses: int = Field(
        default=1, ge=1, le=governance.MAX_USES, description="The organization's policy may allow fewer."
    )


class StepOut(Answer):
    """A planned step."""

    name: str
    digest: str


class ApprovalOut(Answer):
    """An approval. Whether it counts follows from its time and its uses."""

    id: str
    key: str
    status: ApprovalState
    scope: str
    resource: str
    parameters_digest: str
    parameters: Any
    steps: list[StepOut]
    reason: str
    incident: str
    valid_until: Moment
    uses: int
    uses_left: int
    requested_at: Moment
    requested_by: str
    decided_at: Moment | None
    decided_by: str | None
    note: str


class ApprovalsOut(PageOut[ApprovalOut]):
    """A page of approvals, the newest first."""


class ApprovalsQuery(BaseModel):
    """The filters of the list."""

    limit: Limit = _DEFAULT_LIMIT
    cursor: Annotated[str, Field(max_length=200)] | None = None
    status: Literal["requested", "granted", "denied", "expired", "used_up"] | None = None
    key: Id | None = None
    incident: Annotated[str, Field(max_length=128)] | None = None


@router.post(
    "/approvals",
    auth=Bearer(SCOPE),
    response={201: ApprovalOut},
    operation_id="request_approval",
    summary="Ask for an approval",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def approval_request(request: ApiRequest, body: ApprovalRequest) -> HttpResponse:
    """Of a service key that is bound to approvals: for itself, or for one that your key reaches."""
    check_names(request)
    if body.has("valid_until") and body.has("valid_for_seconds"):
        raise invalid("valid_until", "Either this or valid_for_seconds.")

    def act(caller: Caller) -> tuple[HTTPStatus, ApprovalOut]:
        made = services.request_approval(_draft(request, body), actor=caller)
        return HTTPStatus.CREATED, presented(made, clock.now())

    return running.change_once(request, act)


@router.get(
    "/approvals",
    auth=Bearer(SCOPE, allowed=frozenset({"key"})),
    response=ApprovalsOut,
    operation_id="list_approvals",
    summary="List approvals",
    openapi_extra=docs.read(SCOPE, 403),
)
def approval_list(request: ApiRequest, query: Query[ApprovalsQuery]) -> HttpResponse:
    """Those of your key's project and below, the newest first."""
    check_names(request, tuple(ApprovalsQuery.model_fields))

    def act(_caller: Caller) -> ApprovalsOut:
        now = clock.now()
        found = _visible(request)
        if query.status is not None:
            found = found.in_state(query.status, now)
        if query.key is not None:
            found = found.filter(key_id=query.key)
        if query.incident is not None:
            found = found.filter(incident=_plain(query.incident))
        items, cursor = _page(found, query)
        return ApprovalsOut(data=[presented(one, now) for one in items], next_cursor=cursor)

    return running.read(request, act)


@router.get(
    "/approvals/{approval_id}",
    auth=Bearer(SCOPE),
    response=ApprovalOut,
    operation_id="get_approval",
    summary="See an approval",
    openapi_extra=docs.read(SCOPE, 403, 404),
)
def approval_get(request: ApiRequest, approval_id: str) -> HttpResponse:
    """One approval, as it is now."""
    check_names(request)

    def act(_caller: Caller) -> ApprovalOut:
        found = _visible(request).filter(pk=approval_id).first() if ID.fullmatch(approval_id) else None
        if found is None:
            raise Http404
        return presented(found, clock.now())

    return running.read(request, act)


@router.post(
    "/approvals/{approval_id}/grant",
    auth=Bearer(),
    response={200: ApprovalOut},
    operation_id="grant_approval",
    summary="Grant an approval (people)",
    openapi_extra=docs.change("", 403),
)
def approval_grant(request: ApiRequest, approval_id: str) -> HttpResponse:  # noqa: ARG001 - a key may decide on none
    """A person other than whoever asked grants it, on the portal's pages; a key is refused: `person_required`."""
    check_names(request)
    raise PersonRequired


@router.post(
    "/approvals/{approval_id}/deny",
    auth=Bearer(),
    response={200: ApprovalOut},
    operation_id="deny_approval",
    summary="Deny an approval (people)",
    openapi_extra=docs.change("", 403),
)
def approval_deny(request: ApiRequest, approval_id: str) -> HttpResponse:  # noqa: ARG001 - a key may decide on none
    """As with granting."""
    check_names(request)
    raise PersonRequired


def presented(one: Approval, now: datetime) -> ApprovalOut:
    """Return an approval as of `now`; read with its counter."""
    return ApprovalOut(
        id=one.id,
        key=one.key_id,
        status=one.state(now),
        scope=one.scope,
        resource=one.resource,
        parameters_digest=one.parameters_digest,
        parameters=one.parameters,
        steps=[StepOut(name=step.name, digest=step.digest) for step in one.planned],
        reason=one.reason,
        incident=one.incident,
        valid_until=one.valid_until,
        uses=one.uses,
        uses_left=one.uses - one.spent,
        requested_at=one.requested_at,
        requested_by=one.requested_by,
        decided_at=one.decided_at,
        decided_by=one.decided_by or None,
        note=one.note,
    )


def _draft(request: ApiRequest, body: ApprovalRequest) -> services.ApprovalDraft:
    return services.ApprovalDraft(
        key=find(request, body.key or request.auth.key.id),
        scope=body.scope,
        resource=body.resource,
        reason=body.reason,
        parameters=ABSENT if body.parameters is None else body.parameters,
        parameters_digest=body.parameters_digest,
        steps=[Step(step.name, step.digest) for step in body.steps],
        incident=body.incident,
        valid=body.valid_until or body.valid_for_seconds,
        uses=body.uses,
    )


def _visible(request: ApiRequest) -> ApprovalQuerySet:
    return access.approvals_of_presented(request.auth, request.auth.key.organization_id)


def _plain(text: str) -> str:
    if "\0" in text:
        raise invalid("incident", "Text without NUL is needed.")
    return text


def _page(found: ApprovalQuerySet, query: ApprovalsQuery) -> tuple[Sequence[Approval], str | None]:
    try:
        items, following = by_time(found, "requested_at", query.cursor, query.limit, ids=ID)
    except ValueError:
        raise invalid("cursor", "This is no cursor of this list.") from None
    return items, following or None
