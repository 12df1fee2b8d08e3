"""Protecting FastAPI's routes, one by one or a router at once.

@app.get("/incidents")
async def incidents(key: KeyInfo = Depends(RequireScopes("incidents:read", client=keystead))): ...
"""

# FastAPI reads the annotations of `__call__` where it can't look names up: they must be no strings.

from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from fastapi.openapi.models import HTTPBearer
from fastapi.requests import HTTPConnection
from fastapi.security.base import SecurityBase
from starlette.responses import Response

from keystead.asgi import admit
from keystead.client import AsyncKeystead
from keystead.errors import ConfigurationError
from keystead.guard import Guard, Reply, rate_limit_headers
from keystead.models import KeyInfo


class RequireScopes(SecurityBase):
    """A dependency that gives the verified key, or answers 400, 401, 403, 429, 502 or 503 in the route's place.

    Args:
        scopes: all of them are needed; one may be a query such as `a:read AND (b:read OR b:*)`; none: any valid key.
        client: else `app.state.keystead`.
        guard: environment, project, entitlement, cost, headers, trusted_proxies … of `keystead.guard.Guard`.
    """

    def __init__(self, *scopes: str, client: AsyncKeystead | None = None, **guard: Any) -> None:
        self._guard = Guard(scopes[0] if len(scopes) == 1 else scopes, **guard)
        self._client = client
        self.model = HTTPBearer(description="An API key.")
        self.scheme_name = "ApiKey"

    async def __call__(self, request: HTTPConnection, response: Response = None) -> KeyInfo:  # type: ignore[assignment]
        """Return the key; raises an HTTPException."""
        route = getattr(request.scope.get("route"), "path", "")
        judged = await admit(self._guard, self._client_of(request), request.scope, route)
        if isinstance(judged, Reply):
            raise _exception(judged)
        if response is not None:
            response.headers.update(rate_limit_headers(judged))
        return judged

    def _client_of(self, request: HTTPConnection) -> AsyncKeystead:
        client = self._client or getattr(request.app.state, "keystead", None)
        if not isinstance(client, AsyncKeystead):
            raise ConfigurationError("Give RequireScopes a client, or set app.state.keystead.")
        return client


def _exception(reply: Reply) -> HTTPException:
    skipped = {"Content-Type", "Content-Length"}
    headers = {name: value for name, value in reply.headers if name not in skipped}
    return HTTPException(reply.status, HTTPStatus(reply.status).phrase, headers)
