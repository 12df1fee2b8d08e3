"""How operations say what they send: what was not given is left out, times have a zone, creations happen once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final, TypeVar

from keystead.calls import Call, Parameters, Repeat
from keystead.errors import UnreadableAnswer
from keystead.models import AnyPage
from keystead.reading import read

T = TypeVar("T")
Moment = datetime | str
OneOrMore = str | Sequence[str]


class Absent:
    """What was not given, where None has a meaning of its own."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


def acting(path: str, kind: type[T], body: Mapping[str, Any] | None = None) -> Call[T]:
    """Return a call that changes what is there already, once however often it is sent."""
    return creating(path, {} if body is None else body, kind, None)


def reading(path: str, kind: type[T], parameters: Parameters = ()) -> Call[T]:
    """Return a call that changes nothing, and may be repeated at any time."""
    return Call("GET", path, lambda data: read(kind, data), parameters=parameters, repeat=Repeat.ANY_TIME)


def creating(path: str, body: Mapping[str, Any], kind: type[T], idempotency_key: str | None) -> Call[T]:
    """Return a call that may be repeated, as the portal acts once for its Idempotency-Key."""
    once = idempotency_key or f"sdk_{secrets.token_hex(16)}"
    return Call(
        "POST",
        path,
        lambda data: read(kind, data),
        body=body,
        repeat=Repeat.ANY_TIME,
        idempotency_key=once,
    )


def next_page(call: Call[T], page: AnyPage[Any]) -> Call[T] | None:
    """Return the call for the page after this one, None after the last.

    Raises:
        UnreadableAnswer: the next page is this one, and so on for ever.
    """
    if page.next_cursor is None:
        return None
    if ("cursor", page.next_cursor) in call.parameters:
        raise UnreadableAnswer("The list does not go on.")
    kept = [(name, value) for name, value in call.parameters if name != "cursor"]
    return replace(call, parameters=[*kept, ("cursor", page.next_cursor)])


def given(**members: Any) -> dict[str, Any]:
    """Return the members of a body that were given."""
    return {name: value for name, value in members.items() if value is not None}


def nullable(**members: Any) -> dict[str, Any]:
    """Return the members of a body that were given, None among them: it takes something away."""
    return {name: moment(value) for name, value in members.items() if value is not ABSENT}


def query(**members: Any) -> list[tuple[str, str]]:
    """Return the parameters of an address that were given."""
    return [(name, str(value)) for name, value in members.items() if value is not None]


def several(values: OneOrMore | None) -> Sequence[str]:
    """Return one or several values as several."""
    return [values] if isinstance(values, str) else values or ()


def moment(value: Any) -> Any:
    """Return a time as the API reads it, anything else as it is.

    Raises:
        ValueError: a time without a zone, which could be anybody's.
    """
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError("A time needs a zone: datetime(…, tzinfo=timezone.utc).")
    return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def nothing(_data: Any) -> None:
    """Read an answer that says nothing."""
