"""A call and its answer, free of the server that carries them."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from msgspec import Struct
from pydantic import BaseModel, ValidationError

from keys.api import problems
from keys.api.problems import Problem
from keys.errors import KeysError

JSON: Final = "application/json"
NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Incoming(Struct, frozen=True, kw_only=True):
    """One call. `headers` by lower-case name, repeated ones joined by a comma; `peer` is the connection's own address,
    `client_ip` the caller's behind trusted proxies."""

    method: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    peer: str
    client_ip: str

    def header(self, name: str) -> str:
        """Return a header's value, "" where it was not sent."""
        return self.headers.get(name, "")


class Outgoing(Struct, frozen=True):
    """One answer; the carrier adds `X-Request-Id` and what every answer has."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = NONE


def of_problem(problem: Problem, request_id: str) -> Outgoing:
    """Return a problem as an answer."""
    body = problems.document(problem, request_id).encode()
    return Outgoing(problem.status, body, {"Content-Type": problems.CONTENT_TYPE, **problem.headers})


def validated[Model: BaseModel](model: type[Model], found: object) -> Model:
    """Return a body as the model that describes it; raises a `Problem` with 422 for each field at fault."""
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise problems.of_fields(error.errors(include_url=False, include_input=False)) from None


def refuse_parameters(request: Incoming) -> None:
    """Raise a `Problem` with 422 where an operation without parameters is given some."""
    if request.query:
        raise problems.invalid("query", "There is no parameter of this name.")


# What an operation raises instead of answering.
FORESEEN: Final = (Problem, KeysError)


def of_error(error: Exception, request_id: str) -> Outgoing:
    """Return one of `FORESEEN` as an answer."""
    return of_problem(problems.foreseen(error), request_id)


def wrong_method(*allowed: str) -> Problem:
    """Return the problem of a method that an address does not take."""
    detail = "This address does not take this method."
    return Problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, {"Allow": ", ".join(allowed)})
