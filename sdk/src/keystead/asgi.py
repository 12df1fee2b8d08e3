"""Protecting an ASGI application, Starlette's, FastAPI's or any other: HTTP and WebSocket alike.

    app.add_middleware(KeysteadMiddleware, client=AsyncKeystead(), scopes=["incidents:read"])

The verified key is `scope["keystead"]`, and `request.state.keystead` with Starlette.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final

from keystead.client import AsyncKeystead
from keystead.errors import KeysteadError
from keystead.guard import Guard, Reply, Seen, rate_limit_headers
from keystead.models import KeyInfo
from keystead.question import Question

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY: Final = "keystead"
QUESTION: Final = "keystead.question"
_DENIAL: Final = "websocket.http.response"
_POLICY_VIOLATION: Final = 1008
_FULL_MATCH: Final = 2


class KeysteadMiddleware:
    """Lets through to `app` only what presents a key that is good for it.

    Args:
        client: yours to close; made from the environment unless given, and closed with the application.
        exempt: paths, compared whole, that need no key.
        guard: what is demanded, as `keystead.guard.Guard` takes it: scopes, environment, headers, trusted_proxies …

    Put CORS middleware outside of this one: a preflight has no key.
    """

    def __init__(
        self,
        app: App,
        *,
        client: AsyncKeystead | None = None,
        exempt: Collection[str] = (),
        **guard: Any,
    ) -> None:
        self.app = app
        self._is_clients_owner = client is None
        self._client = client or AsyncKeystead()
        self._exempt = frozenset(exempt)
        self._guard = Guard(**guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge the request's key, then call the application or answer in its place."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._closing(send) if self._is_clients_owner else send)
            return
        if scope.get("path") in self._exempt:
            await self.app(scope, receive, send)
            return
        if scope["type"] not in {"http", "websocket"}:
            raise RuntimeError("This middleware knows http and websocket alone.")
        judged = await admit(self._guard, self._client, scope)
        if isinstance(judged, Reply):
            await _answer(judged, scope, receive, send)
        else:
            await self.app(scope, receive, _with_limits(judged, send))

    def _closing(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self._client.aclose()
            await send(message)

        return sending


async def admit(guard: Guard, client: AsyncKeystead, scope: Scope, route: str = "") -> KeyInfo | Reply:
    """Return the request's verified key, which is then in its scope too, or the answer that refuses it.

    A key that this request was let in with already is not counted a second time.
    """
    asked: Question | Reply | None = guard.question(_seen(scope, route))
    if isinstance(asked, Question) and KEY in scope:
        asked = guard.again(asked, scope[KEY], scope[QUESTION])
    if asked is None:
        found: KeyInfo = scope[KEY]
        return found
    if isinstance(asked, Reply):
        return asked
    try:
        key = await client.api_keys.judge(asked)
    except KeysteadError as error:
        return guard.reply(error)
    scope[KEY], scope[QUESTION] = key, asked
    scope.setdefault("state", {})[KEY] = key
    return key


def _seen(scope: Scope, route: str) -> Seen:
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    client = scope.get("client")
    return Seen(
        method=scope.get("method", "WEBSOCKET"),
        route=route or _route(scope) or scope["path"],
        headers=headers,
        query=scope.get("query_string", b"").decode("latin-1"),
        peer=str(client[0]) if client else "",
    )


def _route(scope: Scope) -> str:
    """Return the pattern of the path, as far as the application can tell before it is called, else nothing."""
    routes = getattr(scope.get("app"), "routes", ())
    for route in routes:
        matches, path = getattr(route, "matches", None), getattr(route, "path", "")
        if matches and getattr(matches(scope)[0], "value", 0) == _FULL_MATCH:
            # A mounted application has patterns of its own, which it alone knows.
            return path if not getattr(route, "routes", None) else ""
    return ""


async def _answer(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await _respond("http.response", reply, send)
        return
    await receive()
    if _DENIAL in scope.get("extensions", {}):
        await _respond(_DENIAL, reply, send)
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


async def _respond(kind: str, reply: Reply, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers]
    await send({"type": f"{kind}.start", "status": reply.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": reply.body})


def _with_limits(key: KeyInfo, send: Send) -> Send:
    """Return `send` that tells the client how much is left, so that it can pace itself."""
    added = [(name.lower().encode(), value.encode()) for name, value in rate_limit_headers(key).items()]
    if not added:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent = {name.lower() for name, _ in message.get("headers", ())}
            own = [pair for pair in added if pair[0] not in sent]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return sending
