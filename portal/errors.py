"""Error pages, and the same as problem+json under `/v1`. What was not foreseen is a 500 with the request's id."""

import sys
from http import HTTPStatus

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string

from audit.errors import LedgerUnavailable

RETRY_AFTER_SECONDS = 2
UNAVAILABLE = (OperationalError, InterfaceError, LedgerUnavailable)


def respond(request: HttpRequest, status: HTTPStatus, *, code: str = "", detail: str = "") -> HttpResponse:
    """Return one error as the caller reads it: a problem document under `/v1`, else a page."""
    request_id = getattr(request, "request_id", "")
    if request.path.startswith("/v1/"):
        problem = {
            "type": f"https://keystead.dev/problems/{code or status.name.lower()}",
            "title": status.phrase,
            "status": int(status),
            "detail": detail or status.description or status.phrase,
            "code": code or status.name.lower(),
            "request_id": request_id,
        }
        return JsonResponse(problem, status=status, content_type="application/problem+json")
    context = {"status": int(status), "detail": detail, "request_id": request_id}
    return HttpResponse(render_to_string(f"errors/{int(status)}.html", context), status=status)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Answer 503 for as long as the database or the ledger can't be reached: nothing was changed."""
    response = respond(
        request,
        HTTPStatus.SERVICE_UNAVAILABLE,
        code="unavailable",
        detail="The service can't reach its database. Nothing was changed; try again.",
    )
    response["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001
    return respond(
        request, HTTPStatus.BAD_REQUEST, code="invalid_request", detail="The request can't be read."
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Say that it is not allowed; to support staff in a visit, whom no role would help, what a visit is not for."""
    detail = str(exception or "") if getattr(request, "visit", None) else ""
    return respond(request, HTTPStatus.FORBIDDEN, detail=detail)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:  # noqa: ARG001
    return respond(
        request, HTTPStatus.NOT_FOUND, code="not_found", detail="There is nothing here that you can see."
    )


@login_not_required
def server_error(request: HttpRequest) -> HttpResponse:
    """Answer what nobody foresaw, or 503 where the database went away in the middle."""
    error = sys.exception()
    if isinstance(error, UNAVAILABLE) or (isinstance(error, DatabaseError) and _lost(error)):
        return unavailable(request)
    return respond(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail="Something went wrong on our side.")


def _lost(error: DatabaseError) -> bool:
    """Return whether a database error only says that the connection broke earlier in the same transaction."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UNAVAILABLE):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:  # noqa: ARG001
    """Explain a form that was too old or came from elsewhere."""
    detail = (
        "This form has expired or did not come from this site. Go back, reload the page and send it again."
    )
    return respond(request, HTTPStatus.FORBIDDEN, code="csrf_failed", detail=detail)
