"""Errors as problem documents (RFC 9457); the ladder of `keys.errors` gets its statuses here.

A message never repeats a value: someone will send a secret in the wrong field one day. `secret.redact` goes over the
finished document all the same.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from audit.errors import WebhookError, WebhookStateForbids
from keys import secret
from keys.errors import Conflict, Forbidden, Invalid, KeysError, RotationRunning, Unavailable

TYPES: Final = "https://keystead.dev/problems/"
CONTENT_TYPE: Final = "application/problem+json"
MAX_ERRORS: Final = 50
RETRY_AFTER_SECONDS: Final = 1
_SANE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MESSAGES: Final = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field.",
    "bool_type": "True or false is needed.",
    "int_type": "A whole number is needed.",
    "int_parsing": "A whole number is needed.",
    "int_parsing_size": "A whole number is needed.",
    "int_from_float": "A whole number is needed.",
    "string_type": "Text is needed.",
    "string_unicode": "This text is no valid Unicode.",
    "string_pattern_mismatch": "This is not of the form that is needed here.",
    "list_type": "A list is needed.",
    "dict_type": "An object is needed.",
    "model_type": "An object is needed.",
    "model_attributes_type": "An object is needed.",
    "union_tag_not_found": "The object needs its `type`.",
    "union_tag_invalid": "There is no such `type`.",
    "none_required": "Not available yet: leave it out, or null.",
}
# Messages of these speak of the bounds alone.
_SAFE: Final = frozenset(
    {
        "string_too_long",
        "string_too_short",
        "too_long",
        "too_short",
        "greater_than_equal",
        "less_than_equal",
        "literal_error",
        "enum",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One error of a request: where (`name`, `tags.team`, `allowed_ips[2]`), and what is wrong there."""

    location: str
    message: str


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - it is raised as what it says
    """An answer that is no success. `extra` are extension members of the document."""

    status: HTTPStatus
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: Sequence[FieldError] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


def invalid(location: str, message: str, *, code: str = "invalid_value") -> Problem:
    """Return the problem of one field."""
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        code,
        "The request is not valid.",
        errors=[FieldError(location=location, message=message)],
    )


def unreadable(detail: str) -> Problem:
    """Return the problem of a request that can't be read at all."""
    return Problem(HTTPStatus.BAD_REQUEST, "invalid_request", detail)


def not_found() -> Problem:
    """Return the problem of what is not there, and of what the caller may not see: the same."""
    return Problem(HTTPStatus.NOT_FOUND, "not_found", "There is nothing here that you can see.")


def document(problem: Problem, request_id: str) -> str:
    """Return the problem document, with whatever looks like a secret hidden."""
    found: dict[str, Any] = {
        "type": TYPES + problem.code,
        "title": problem.status.phrase,
        "status": int(problem.status),
        "detail": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    if problem.status is HTTPStatus.UNPROCESSABLE_ENTITY:
        found["errors"] = [{"location": e.location, "message": e.message} for e in problem.errors]
    return secret.redact(json.dumps(found | dict(problem.extra), ensure_ascii=False))


def respond(request: HttpRequest, problem: Problem) -> HttpResponse:
    """Return the problem as an answer."""
    text = document(problem, getattr(request, "request_id", ""))
    return HttpResponse(text, status=problem.status, content_type=CONTENT_TYPE, headers=dict(problem.headers))


def of(error: KeysError | WebhookError) -> Problem:
    """Return the problem of an error of the services: each rung of the ladder has its status here."""
    match error:
        case Invalid():
            errors = [FieldError(location=e.field or "body", message=e.detail) for e in error.errors]
            return Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, error.code, "The request is not valid.", errors=errors
            )
        case RotationRunning():
            extra = {"rotation": error.rotation_id}
            return Problem(HTTPStatus.CONFLICT, error.code, error.detail, extra=extra)
        case Conflict() | WebhookStateForbids():
            return Problem(HTTPStatus.CONFLICT, error.code, error.detail)
        case Forbidden():
            return Problem(HTTPStatus.FORBIDDEN, error.code, error.detail)
        case Unavailable():
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, error.code, error.detail, headers)
        case _:
            return invalid(error.field or "body", error.detail, code=error.code)


# What Django raises while a body is read.
UNREADABLE: Final = (RequestDataTooBig, UnreadablePostError)


def handle_all(api: NinjaAPI) -> None:
    """Let the API answer every foreseen error with a problem; the rest is `portal.errors`' (500, or 503)."""
    for kind in (
        Problem,
        KeysError,
        WebhookError,
        Http404,
        ValidationError,
        HttpError,
        *UNREADABLE,
    ):
        api.add_exception_handler(kind, lambda request, error: respond(request, foreseen(error)))


def foreseen(error: object) -> Problem:
    """Return the problem of any error that is no bug."""
    match error:
        case Problem():
            return error
        case KeysError() | WebhookError():
            return of(error)
        case Http404():
            return not_found()
        case ValidationError():
            return _of_fields(error)
        case HttpError():
            return _of_body(error)
        case _:
            return TOO_LARGE if isinstance(error, RequestDataTooBig) else _BROKEN_OFF


TOO_LARGE: Final = Problem(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", "The body of the request is too large."
)
_BROKEN_OFF: Final = unreadable("The body of the request broke off.")


def _of_body(error: HttpError) -> Problem:
    """Return what went wrong with the body: ninja wraps whatever its parser raises."""
    cause = error.__cause__
    return cause if isinstance(cause, Problem) else unreadable("The body of the request can't be read.")


def _of_fields(error: ValidationError) -> Problem:
    """Return what ninja found wrong; before each place it puts the source and, but for a query's, the argument."""
    places = [found["loc"][2:] or found["loc"][1:] for found in error.errors[:MAX_ERRORS]]
    return of_fields([{**found, "loc": place} for found, place in zip(error.errors, places, strict=False)])


def of_fields(found: Sequence[Mapping[str, Any]]) -> Problem:
    """Return the problem of what pydantic found wrong with a body."""
    errors = [
        FieldError(location=_location(each["loc"]), message=_message(each)) for each in found[:MAX_ERRORS]
    ]
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_value", "The request is not valid.", errors=errors
    )


def _location(path: Sequence[str | int]) -> str:
    """Return where the error is as `KeysError.field` has it.

    A name comes from the request, so that it may be anything: what is no plain name is not repeated.
    """
    location = ""
    for step in path:
        if isinstance(step, int):
            location += f"[{step}]"
        elif step not in _OF_UNIONS:
            location += f".{step if _SANE_NAME.fullmatch(step) else '…'}"
    return location.removeprefix(".") or "body"


# Pydantic names the branch of a union that it tried; the caller knows no branches.
_OF_UNIONS: Final = frozenset({"member", "team", "str", "list[str]", "own limit", "named limit"})


def _message(found: Mapping[str, Any]) -> str:
    kind = str(found["type"])
    if kind == "value_error":
        return str(found["ctx"]["error"])
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    return str(found["msg"]) + "." if kind in _SAFE else "This value is not allowed here."
