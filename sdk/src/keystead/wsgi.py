"""Protecting a WSGI application.

    application = KeysteadMiddleware(application, client=Keystead(), scopes=["incidents:read"])

The verified key is `environ["keystead.key"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from keystead.client import Keystead
from keystead.errors import KeysteadError
from keystead.guard import Guard, Reply, Seen, rate_limit_headers
from keystead.models import KeyInfo

Environ = MutableMapping[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

KEY: Final = "keystead.key"


class KeysteadMiddleware:
    """Lets through to `app` only what presents a key that is good for it.

    Args:
        client: made from the environment unless given.
        exempt: paths (SCRIPT_NAME and PATH_INFO together), compared whole, that need no key.
        route: returns the path's pattern for usage, `/incidents/{id}`; the path itself unless given.
        guard: what is demanded, as `keystead.guard.Guard` takes it: scopes, environment, headers, trusted_proxies …
    """

    def __init__(
        self,
        app: App,
        *,
        client: Keystead | None = None,
        exempt: Collection[str] = (),
        route: Callable[[Environ], str] | None = None,
        **guard: Any,
    ) -> None:
        self.app = app
        self._client = client or Keystead()
        self._exempt = frozenset(exempt)
        self._route = route or path_of
        self._guard = Guard(**guard)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Judge the request's key, then call the application or answer in its place."""
        if path_of(environ) in self._exempt:
            return self.app(environ, start_response)
        judged = self._admit(environ)
        if isinstance(judged, Reply):
            start_response(f"{judged.status} {HTTPStatus(judged.status).phrase}", list(judged.headers))
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [judged.body]
        environ[KEY] = judged
        return self.app(environ, _with_limits(judged, start_response))

    def _admit(self, environ: Environ) -> KeyInfo | Reply:
        asked = self._guard.question(_seen(environ, self._route(environ)))
        if isinstance(asked, Reply):
            return asked
        try:
            return self._client.api_keys.judge(asked)
        except KeysteadError as error:
            return self._guard.reply(error)


def path_of(environ: Environ) -> str:
    """Return the path that was asked for."""
    sent = str(environ.get("SCRIPT_NAME", "")) + str(environ.get("PATH_INFO", ""))
    # PEP 3333: bytes, read as Latin-1.
    return sent.encode("latin-1", "replace").decode("utf-8", "replace")


def _seen(environ: Environ, route: str) -> Seen:
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower(), str(value))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return Seen(
        method=str(environ["REQUEST_METHOD"]),
        route=route,
        headers=headers,
        query=str(environ.get("QUERY_STRING", "")),
        peer=str(environ.get("REMOTE_ADDR", "")),
    )


def _with_limits(key: KeyInfo, start_response: Callable[..., Any]) -> Callable[..., Any]:
    """Return `start_response` that tells the client how much is left, so that it can pace itself."""
    added = list(rate_limit_headers(key).items())

    def starting(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        sent = {name.lower() for name, _ in headers}
        own = [pair for pair in added if pair[0].lower() not in sent]
        return start_response(status, [*headers, *own], *rest)

    return starting
