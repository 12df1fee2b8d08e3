"""How verification is described: `keys.gate` answers it, in front of Django where the server is an ASGI one."""

from typing import NoReturn

from ninja import Router

from keys.api import docs
from keys.api.answers import UnknownOut, VerdictOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.requests import VerifyRequest

router = Router(tags=["Verification"])


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
