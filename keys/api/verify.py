"""How verification is described: `keys.gate` answers it, in front of Django where the server is an ASGI one."""

from typing import Any, Final, NoReturn

from ninja import Query, Router
from pydantic import BaseModel, Field

from keys.api import docs
from keys.api.answers import UnknownOut, VerdictOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.requests import VerifyRequest

router = Router(tags=["Verification"])


class AuthorizeQuery(BaseModel):
    """What the request must be good for."""

    scopes: list[str] = Field(default_factory=list, description="Repeated or with commas; or one query.")
    environment: str | None = None
    project: str | None = None
    entitlement: str | None = None
    region: str | None = None
    cost: int = 1


@router.post(
    "/keys/verify",
    auth=Bearer("keys:verify", cost=0),
    response=VerdictOut | UnknownOut,
    operation_id="verify_key",
    summary="Verify a presented secret",
    openapi_extra=docs.change("keys:verify", 403),
)
def key_verify(request: ApiRequest, body: VerifyRequest) -> NoReturn:
    """200 for every verdict: 401 and 403 speak of your own key. What it answers is recorded before you read it."""
    raise NotImplementedError  # `urls` puts the gate in its place


_HEADERS: Final = (
    "X-Keystead-Code",
    "X-Keystead-Org",
    "X-Keystead-Key",
    "X-Keystead-Plan",
    "X-Keystead-Scopes",
)
_ANSWERS: Final[dict[str, Any]] = {
    "204": {
        "description": "Let it through.",
        "headers": {name: {"schema": {"type": "string"}} for name in _HEADERS},
    },
    "401": {"description": "The client's key is unknown, or has ended: see `X-Keystead-Code`."},
    "403": {"description": "The client's key may not do this: see `X-Keystead-Code`."},
    "405": {"$ref": f"{docs.REF}/responses/405"},
    "429": {"description": "The client's key has reached its limit or quota: see `Retry-After`."},
    "502": {"description": "The proxy's own key is not valid here, or its question is not."},
    "503": {"description": "Nothing can be said now: keep the door closed."},
}


def _operation(name: str, summary: str) -> dict[str, Any]:
    return {
        "auth": Bearer("keys:verify", cost=0),
        "operation_id": name,
        "summary": summary,
        "openapi_extra": {"responses": _ANSWERS, "x-scope": "keys:verify"},
    }


@router.get("/authorize", **_operation("authorize", "Forward-auth"))
@router.post("/authorize", **_operation("authorize_by_post", "Forward-auth by POST"))
def authorize(request: ApiRequest, query: Query[AuthorizeQuery]) -> NoReturn:
    """For proxies: your key in `Authorization` and the client's in `X-Forwarded-Api-Key`, or yours in
    `X-Keystead-Verifier` and the client's in `Authorization`. Method, address and URI come in `X-Forwarded-*`."""
    raise NotImplementedError
