"""What ASGI's messages carry: headers read, and answers sent with what every answer has."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings

from keys.gate.messages import Outgoing

type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
type Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]
type Headers = list[tuple[bytes, bytes]]

# What every answer has, as the middleware gives it to the others.
ALWAYS: Final = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_HSTS: Final = b"max-age=63072000; includeSubDomains; preload"


def read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return a request's headers by lower-case name, repeated ones joined by a comma."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def answer_headers(outgoing: Outgoing, id_: str) -> Headers:
    """Return an answer's own headers and those that every answer has; `id_` is the request's."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in outgoing.headers.items()
    ]
    headers += ALWAYS
    headers.append((b"x-request-id", id_.encode("latin-1")))
    if settings.SECURE_HSTS_SECONDS:
        headers.append((b"strict-transport-security", _HSTS))
    return headers


async def send_answer(send: Send, outgoing: Outgoing, id_: str) -> None:
    """Send a whole answer."""
    headers = answer_headers(outgoing, id_)
    if outgoing.status != HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", str(len(outgoing.body)).encode("latin-1")))
    await send({"type": "http.response.start", "status": int(outgoing.status), "headers": headers})
    await send({"type": "http.response.body", "body": outgoing.body})
