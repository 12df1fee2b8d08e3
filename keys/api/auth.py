"""Who calls: the key in `Authorization: Bearer`, and nothing else (RFC 6750). Cookies are never read here."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from django.http import HttpRequest
from django.utils import timezone
from ninja.security.base import AuthBase

from audit.requests import Request
from keys import callers, verification
from keys.api.problems import Problem
from keys.callers import Caller, Presented
from keys.gate import credentials, standing
from keys.scopes import holds
from keys.verdict import Code

MAX_USER_AGENT: Final = 256


class ApiRequest(Request):
    """A request that a key authenticated."""

    auth: Presented


class Bearer(AuthBase):
    """Let in whoever presents a valid key that holds a scope; without one, any valid key."""

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "A key of this portal, `ks_cp_live_…`."

    def __init__(
        self,
        scope: str = "",
        *,
        cost: int = 1,
        allowed: frozenset[str] = frozenset(),
        on_refused: Callable[[Caller, str], None] | None = None,
    ) -> None:
        """`cost` counts against the caller's own rate limit; 0 for what verifiers call (KEYS §7).

        `allowed` are parameters that the operation takes although others name keys so. `on_refused` is told who lacked
        the scope, and of which organization, outside any transaction.
        """
        super().__init__()
        self.on_refused = on_refused
        self.scope = scope
        self.cost = cost
        self.allowed = allowed

    def __call__(self, request: HttpRequest) -> Presented:
        """Return the presented key, having counted the call; raises a `Problem`: 400, 401, 403, 429."""
        credentials.refuse_key_in_query(request.META.get("QUERY_STRING", ""), allowed=self.allowed)
        token = credentials.bearer(request.META.get("HTTP_AUTHORIZATION", ""))
        found = verification.authenticate(token, ip=getattr(request, "client_ip", ""), cost=self.cost)
        headers = standing.limit_headers(found.counted)
        if found.verdict.code is Code.RATE_LIMITED:
            detail = "This key has made too many calls."
            headers |= standing.expiry(found.ends_at, timezone.now())
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", detail, headers)
        if found.presented is None:
            credentials.refuse_token()
        request.presented = found.presented  # type: ignore[attr-defined]
        request.limit_headers = headers  # type: ignore[attr-defined]
        if self.on_refused is not None and not holds(found.presented.scopes, self.scope):
            who = caller_of(request, found.presented)  # type: ignore[arg-type]
            self.on_refused(who, found.presented.key.organization_id)
        credentials.require(found.presented.scopes, self.scope)
        return found.presented


def require(presented: Presented, scope: str) -> None:
    """Raise a `Problem` with 403 unless the key's effective scopes cover the one that is needed."""
    credentials.require(presented.scopes, scope)


def caller(request: ApiRequest) -> Caller:
    """Return the presented key as the actor of services."""
    return caller_of(request, request.auth)


def caller_of(request: Request, presented: Presented) -> Caller:
    """Return a key as the actor of services, whether or not it may do what it asks for."""
    return callers.of_key(
        presented,
        ip=request.client_ip,
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
        request_id=request.request_id,
    )


def notices(request: HttpRequest) -> dict[str, str]:
    """Return the headers that tell a caller how its key stands: its limit, and within 7 days its end."""
    presented: Presented | None = getattr(request, "presented", None)
    if presented is None:
        return {}
    return getattr(request, "limit_headers", {}) | standing.expiry(presented.key.expires_at, timezone.now())
