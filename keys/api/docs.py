"""The OpenAPI document: what ninja derives from the code, with the errors, headers and media types it does not know."""

import copy
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from keys.api.answers import ProblemOut
from keys.api.problems import CONTENT_TYPE

REF: Final = "#/components"
_ALWAYS: Final = (400, 401, 422, 429, 503)
_WITH_BODY: Final = (413, 415)
_TEXTS: Final = {
    400: "The request can't be read, or authenticates twice.",
    401: "No valid key: see `WWW-Authenticate`.",
    403: "The key lacks a scope, or may not do this.",
    404: "Not there, or not yours to see.",
    405: "The address does not take this method.",
    409: "The name is taken, or the state forbids it.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "A value, a field or a parameter is not allowed: see `errors`.",
    429: "The key has made too many calls: see `Retry-After`.",
    501: "This server can't stream; the ASGI server can.",
    503: "The database is out of reach; nothing was changed.",
}
_HEADERS: Final = {
    401: {"WWW-Authenticate": "The scheme, and what is wrong with the key."},
    503: {"Retry-After": "Seconds."},
}
_IDEMPOTENCY: Final = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "For 24 hours the same key and body give the first answer again, its secret null.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}


def read(
    scope: str, *statuses: int, answers: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return what to add to an operation that only reads: its scope and the problems that it can answer.

    `answers` are what ninja can't derive, such as a stream.
    """
    extra = _extra(scope, (*_ALWAYS, *statuses))
    extra["responses"] |= answers or {}
    return extra


def change(scope: str, *statuses: int, once: bool = False) -> dict[str, Any]:
    """Return what to add to an operation with a body; `once`: it honours `Idempotency-Key`."""
    extra = _extra(scope, (*_ALWAYS, *_WITH_BODY, *statuses))
    return extra | {"parameters": [copy.deepcopy(_IDEMPOTENCY)]} if once else extra


def open_change(*statuses: int) -> dict[str, Any]:
    """Return what to add to an operation with a body that no key authenticates."""
    return _extra("", (400, 422, 503, *_WITH_BODY, *statuses))


def _extra(scope: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    answers = {str(status): {"$ref": f"{REF}/responses/{status}"} for status in sorted(statuses)}
    return {"responses": answers, "x-scope": scope}


def finished(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return ninja's document with the shared problems, and the statuses as the text that JSON has for them."""
    found: dict[str, Any] = copy.deepcopy(dict(document))
    components = found["components"]
    problem = ProblemOut.model_json_schema(ref_template=f"{REF}/schemas/{{model}}")
    components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    components["responses"] = {str(status): _problem(status) for status in _TEXTS}
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["responses"] = {str(s): answer for s, answer in operation["responses"].items()}
    return found


def _problem(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}. {_TEXTS[status]}",
        "content": {CONTENT_TYPE: {"schema": {"$ref": f"{REF}/schemas/Problem"}}},
    }
    if status in _HEADERS:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _HEADERS[status].items()
        }
    return answer
