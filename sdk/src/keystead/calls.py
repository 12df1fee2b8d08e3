"""One call of the API as a value: what is sent, how its answer is read, and when it may be sent again."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from keystead.errors import (
    BY_STATUS,
    ApiError,
    FieldError,
    ServerError,
    Unavailable,
    UnreadableAnswer,
)
from keystead.secret import looks_like_secret

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
Parameters = Sequence[tuple[str, str]]
IDEMPOTENCY: str = "Idempotency-Key"
REQUEST_ID: str = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_UNAVAILABLE = frozenset({502, 503, 504})


class Repeat(Enum):
    """When a call may be sent again."""

    UNPROCESSED = auto()
    """Only where the portal surely did nothing: it was not reached, or it said that it is too busy."""
    ANY_TIME = auto()
    """Also where its answer was lost: once or twice is the same."""


@dataclass(frozen=True)
class Call(Generic[T_co]):
    """A call; `body` may hold a secret, so that it is in no repr.

    Args:
        path: below the base URL; ids in it were checked by `key_path`.
        parse: makes the result of the answer's JSON, None where there was none.
        request_id: sent as X-Request-Id, the same for every attempt.
        is_anonymous: sent without the client's own key.
        is_text: the answer is a text, not JSON; `parse` gets it.
    """

    method: str
    path: str
    parse: Callable[[Any], T_co] = field(repr=False)
    parameters: Parameters = ()
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    repeat: Repeat = Repeat.UNPROCESSED
    idempotency_key: str = field(default="", repr=False)
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    is_anonymous: bool = False
    is_text: bool = False

    def __post_init__(self) -> None:
        if any(looks_like_secret(value) for _, value in self.parameters):
            raise ValueError("A secret never goes into an address: it would stay in logs.")

    def headers(self) -> dict[str, str]:
        """Return what this call carries beside the client's own headers."""
        own = {REQUEST_ID: self.request_id}
        if self.idempotency_key:
            own[IDEMPOTENCY] = self.idempotency_key
        return own

    def named(self, request_id: str | None) -> Call[T_co]:
        """Return the call under the caller's own request id, where it is one that the portal will take."""
        if request_id and _SANE_REQUEST_ID.fullmatch(request_id) and not looks_like_secret(request_id):
            return replace(self, request_id=request_id)
        return self


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; its content may hold a secret."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def retry_after_seconds(self) -> float | None:
        """Return `Retry-After` in seconds; None where there is none, or a date."""
        text = self.headers.get("retry-after", "").strip()
        return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) else None


@dataclass(frozen=True)
class Lost:
    """No answer. `is_sent` where the portal may have acted all the same; `why` holds nothing of the request."""

    why: str
    is_sent: bool


Outcome = Answer | Lost


def key_path(key_id: str, *rest: str) -> str:
    """Return the path of a key, or of what is below it.

    Raises:
        ValueError: it is no id: a secret, a path, or nothing.
    """
    return path_of("/v1/api-keys", key_id, *rest, like="a key's id: those look like key_…")


def path_of(base: str, id_: str, *rest: str, like: str = "an id") -> str:
    """Return the path of one thing, or of what is below it.

    Raises:
        ValueError: it is no id: a secret, a path, or nothing.
    """
    if _ID.fullmatch(id_) is None or looks_like_secret(id_):
        raise ValueError(f"This is not {like}.")
    return "/".join((base, quote(id_, safe=""), *rest))


def result(call: Call[T_co], outcome: Outcome) -> T_co:
    """Return what the answer says.

    Raises:
        ApiError: the portal refused the call: the subclass that the status stands for.
        Unavailable: there was no answer, or one of 502, 503, 504.
        UnreadableAnswer: it was not one of a portal.
    """
    if isinstance(outcome, Lost):
        raise Unavailable(outcome.why, request_id=call.request_id)
    if not 200 <= outcome.status < 300:
        raise _error(call, outcome)
    try:
        if call.is_text:
            return call.parse(outcome.content.decode())
        return call.parse(json.loads(outcome.content) if outcome.content else None)
    except UnreadableAnswer as error:
        why = str(error)
    except (ValueError, RecursionError):
        why = "The answer is not one of a portal: no JSON."
    # Raised anew: the frames that read the answer have its content, and so a secret that was just made.
    raise UnreadableAnswer(why, request_id=call.request_id)


def _error(call: Call[Any], answer: Answer) -> ApiError | Unavailable:
    request_id = answer.headers.get("x-request-id", call.request_id)
    wait = answer.retry_after_seconds
    if answer.status in _UNAVAILABLE:
        said = f"The portal answered {answer.status}."
        return Unavailable(said, request_id=request_id, retry_after_seconds=wait)
    if answer.status < 400:
        return UnreadableAnswer(f"The portal answered {answer.status}: is base_url its address?")
    document = problem(answer.content)
    kind = BY_STATUS.get(answer.status, ServerError if answer.status >= 500 else ApiError)
    return kind(
        answer.status,
        code=_text(document, "code"),
        detail=_text(document, "detail"),
        request_id=_text(document, "request_id") or request_id,
        errors=_fields(document.get("errors")),
        retry_after_seconds=wait,
        rotation_id=_text(document, "rotation"),
    )


def problem(content: bytes) -> dict[str, Any]:
    """Return the problem document, empty where it is none: what a proxy says is not repeated."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _fields(errors: Any) -> tuple[FieldError, ...]:
    found = errors if isinstance(errors, list) else []
    return tuple(
        FieldError(_text(each, "location"), _text(each, "message"))
        for each in found
        if isinstance(each, dict)
    )
