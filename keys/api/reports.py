"""What the SDK's local mode needs: uses of kept verdicts reported, and the stream that tells when none may be kept.

The gate answers both where there is an ASGI server (`keys.gate.reports`, `keys.revocations`).
"""

from http import HTTPStatus
from typing import Final, NoReturn

from django.http import HttpResponse
from ninja import Router

from keys import reported
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.problems import Problem
from keys.api.requests import UsageReportRequest
from keys.api.usage import router as usage

router = Router(tags=["Verification"])


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
    accepted = reported.record(body.batch, body.uses(), verifier=request.auth, request_id=request.request_id)
    return running.answer(HTTPStatus.ACCEPTED, UsageReportOut(accepted=accepted))


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
