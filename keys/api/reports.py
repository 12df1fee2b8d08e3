"""What the SDK's local mode needs: uses of kept verdicts reported, and the stream that tells when none may be kept."""

from http import HTTPStatus
from typing import Final, NoReturn

from django.http import HttpResponse
from ninja import Router
from pydantic import ConfigDict, Field

from keys import reported
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.problems import Problem
from keys.api.requests import MAX_VERSION, Address, Bytes64, Bytes256, Id, Strict
from keys.api.times import Time
from keys.api.usage import router as usage
from keys.reported import Used

MAX_ITEMS: Final = 1_000
# Both are PostgreSQL's largest integer at most.
MAX_CALLS: Final = 1_000_000_000
MAX_COSTS: Final = 2_000_000_000

router = Router(tags=["Verification"])


class UsedIn(Strict):
    """Like calls that kept verdicts answered: how many, and what they cost in all."""

    key: Id
    secret_version: int = Field(ge=1, le=MAX_VERSION)
    at: Time = Field(description="Of the first; taken as at most an hour ago.")
    calls: int = Field(ge=1, le=MAX_CALLS)
    cost: int = Field(ge=0, le=MAX_COSTS)
    endpoint: Bytes256 | None = None
    region: Bytes64 | None = None
    ip: Address | None = None
    user_agent: Bytes256 | None = None


class UsageReportRequest(Strict):
    """A batch of uses. Its name makes it count once, however often it is sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "batch": "3f0b7c1e-5a52-4c0e-9a0f-2f6f1f3f9d11",
                    "calls": [
                        {
                            "key": "key_aaaaaaaaaaaaaaaaaaaa",
                            "secret_version": 1,
                            "at": "2027-01-31T12:00:00Z",
                            "calls": 120,
                            "cost": 120,
                            "endpoint": "GET /v1/incidents",
                        }
                    ],
                }
            ]
        }
    )

    batch: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$", description="A name that you never use again.")
    calls: list[UsedIn] = Field(min_length=1, max_length=MAX_ITEMS)


class UsageReportOut(Answer):
    """How many items were recorded: none of a batch that was sent before."""

    accepted: int


# One router for one address: another would hide the address of the first from this method.
@usage.post(
    "/usage",
    auth=Bearer("keys:verify", cost=0),
    response={202: UsageReportOut},
    operation_id="report_usage",
    summary="Report uses of kept verdicts",
    openapi_extra=docs.change("keys:verify", 403),
)
def usage_report(request: ApiRequest, body: UsageReportRequest) -> HttpResponse:
    """For clients that keep verdicts for a moment, such as the SDK's local mode. Foreign keys are left out."""
    check_names(request)
    accepted = reported.record(
        body.batch, list(map(_used, body.calls)), verifier=request.auth, request_id=request.request_id
    )
    return running.answer(HTTPStatus.ACCEPTED, UsageReportOut(accepted=accepted))


def _used(item: UsedIn) -> Used:
    return Used(
        key_id=item.key,
        version=item.secret_version,
        at=item.at,
        calls=item.calls,
        cost=item.cost,
        endpoint=item.endpoint or "",
        region=item.region or "",
        ip=item.ip,
        user_agent=item.user_agent or "",
    )


_EVENTS: Final = {
    "200": {
        "description": "Events: `ready` first; then `key`, `organization` or `everything` with an id or `*` as data,"
        " whenever a verdict may be narrower than before; `ping` every 300 ms. Whoever hears nothing for a second must"
        " ask anew for every verdict.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/revocations",
    auth=Bearer("keys:verify", cost=0),
    operation_id="stream_revocations",
    summary="Hear of narrowed keys",
    openapi_extra=docs.read("keys:verify", 403, 501, answers=_EVENTS),
)
def revocation_stream(request: ApiRequest) -> NoReturn:
    """Server-sent events. The ASGI server serves them (`keys.revocations`); this stands in where there is only WSGI."""
    check_names(request)
    raise Problem(
        HTTPStatus.NOT_IMPLEMENTED, "streams_not_served", "This server can't stream: ask its ASGI address."
    )
