"""Who calls: the key in `Authorization: Bearer`, and nothing else (RFC 6750). Cookies are never read here."""

import re
from http import HTTPStatus
from typing import Final, NoReturn

from django.http import HttpRequest
from django.utils import timezone
from ninja.security.base import AuthBase

from audit.requests import Request
from keys import callers, secret, verification
from keys.api.problems import Problem, unreadable
from keys.api.times import as_text
from keys.callers import Caller, Presented
from keys.scopes import holds
from keys.verdict import expires_soon

REALM: Final = 'Bearer realm="keystead"'
EXPIRES: Final = "Keystead-Key-Expires"
MAX_USER_AGENT: Final = 256
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
# Where other APIs take a key in the query: here it would stay in logs, so that it is refused, not overlooked.
_KEY_NAMES: Final = frozenset(
    {"access_token", "api_key", "api-key", "apikey", "authorization", "bearer", "key", "secret", "token"}
)


class ApiRequest(Request):
    """A request that a key authenticated."""

    auth: Presented


class Bearer(AuthBase):
    """Let in whoever presents a valid key that holds a scope; without one, any valid key."""

    openapi_type = "http"
    openapi_scheme = "bearer"
    openapi_description = "A key of this portal, `ks_cp_live_…`."

    def __init__(self, scope: str = "") -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> Presented:
        """Return the presented key; raises a `Problem` with 400, 401 or 403."""
        refuse_key_in_query(request)
        found, presented = verification.authenticate(_token(request), ip=getattr(request, "client_ip", ""))
        if presented is None or not found.is_valid:
            _refuse(HTTPStatus.UNAUTHORIZED, "invalid_token", "This key is not valid here.")
        request.presented = presented  # type: ignore[attr-defined]
        require(presented, self.scope)
        return presented


def require(presented: Presented, scope: str) -> None:
    """Raise a `Problem` with 403 unless the key's effective scopes cover the one that is needed."""
    if scope and not holds(presented.scopes, scope):
        _refuse(HTTPStatus.FORBIDDEN, "insufficient_scope", f"This needs the scope {scope}.", scope=scope)


def caller(request: ApiRequest) -> Caller:
    """Return the presented key as the actor of services."""
    return callers.of_key(
        request.auth,
        ip=request.client_ip,
        user_agent=request.headers.get("User-Agent", "")[:MAX_USER_AGENT],
        request_id=request.request_id,
    )


def expiry_notice(request: HttpRequest) -> dict[str, str]:
    """Return the header that warns a caller within 7 days of the end of its key, else nothing."""
    presented: Presented | None = getattr(request, "presented", None)
    ends_at = presented.key.expires_at if presented else None
    if ends_at is None or not expires_soon(ends_at, timezone.now()):
        return {}
    return {EXPIRES: as_text(ends_at)}


def refuse_key_in_query(request: HttpRequest) -> None:
    """Raise a `Problem` with 400 where the address carries a key, or what looks like one."""
    for name, values in request.GET.lists():
        texts = (name, *map(str, values))
        if name.lower() in _KEY_NAMES or any(secret.redact(text) != text for text in texts):
            raise unreadable("A key never goes into the address: it would stay in logs.")


def _token(request: HttpRequest) -> str:
    """Return what stands after `Bearer`; raises a `Problem` where there is nothing, or more than one thing."""
    header: str = request.META.get("HTTP_AUTHORIZATION", "").strip()
    scheme, _, rest = header.partition(" ")
    token = rest.strip()
    if "," in header and ("bearer" in header.lower()):
        raise unreadable("Authenticate once, by one method.")
    if scheme.lower() != "bearer":
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "unauthenticated",
            "Send a key as Authorization: Bearer.",
            {"WWW-Authenticate": REALM},
        )
    if _TOKEN.fullmatch(token) is None:
        _refuse(HTTPStatus.UNAUTHORIZED, "invalid_token", "This key is not valid here.")
    return token


def _refuse(status: HTTPStatus, code: str, detail: str, **parameters: str) -> NoReturn:
    challenge = {"error": code, **parameters}
    values = ", ".join(f'{name}="{value}"' for name, value in challenge.items())
    raise Problem(status, code, detail, {"WWW-Authenticate": f"{REALM}, {values}"})
