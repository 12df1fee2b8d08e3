"""Reading a JSON body strictly: what two parsers could read in two ways is refused."""

import json
from http import HTTPStatus
from typing import Any, Final, NoReturn

from django.http import HttpRequest
from django.utils.http import parse_header_parameters
from ninja.parser import Parser

from keys.api.problems import Problem, unreadable

JSON: Final = "application/json"


class StrictParser(Parser):
    """JSON as RFC 8259 has it, in UTF-8, each member once; ninja turns the `Problem` into the answer."""

    def parse_body(self, request: HttpRequest) -> Any:
        """Return the parsed body; raises a `Problem` with 400 or 415."""
        return read_json(request.headers.get("Content-Type", ""), request.body)


def read_json(content_type: str, body: bytes) -> Any:
    """Return a parsed body; raises a `Problem` with 400 or 415."""
    if content_type != JSON and not _is_json(content_type):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"Send the body as {JSON}.",
            {"Accept-Post": JSON},
        )
    try:
        text = body.decode("utf-8")
        if text.startswith("\ufeff"):
            raise unreadable("The body is no valid JSON.")
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise unreadable("The body is no valid JSON.") from None


def _is_json(content_type: str) -> bool:
    name, parameters = parse_header_parameters(content_type)
    return name == JSON and parameters.get("charset", "utf-8").lower() == "utf-8"


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once_each, parse_constant=_no_constant)
