"""Rotating a key, or the very key that asks: the swap without downtime."""

from http import HTTPStatus
from typing import Annotated

from django.http import HttpResponse
from ninja import Body, Router

from keys import clock, services
from keys.api import docs, present, running
from keys.api.answers import RotatedOut
from keys.api.auth import ApiRequest, Bearer, require
from keys.api.keys import find
from keys.api.paging import check_names
from keys.api.requests import RotationRequest, SelfRotationRequest
from keys.callers import Caller
from keys.rotation import Mode

router = Router(tags=["Rotation"])


@router.post(
    "/api-keys/{key_id}/rotate",
    auth=Bearer("keys:rotate"),
    response={201: RotatedOut},
    operation_id="rotate_key",
    summary="Rotate a key",
    openapi_extra=docs.change("keys:rotate", 403, 404, 409, once=True),
)
def key_rotate(
    request: ApiRequest, key_id: str, body: Annotated[RotationRequest | None, Body()] = None
) -> HttpResponse:
    """A new secret on the same key. Without a body: `grace`, the old one lives for a day."""
    return _rotate(request, key_id, body or RotationRequest())


@router.post(
    "/keys/rotate",
    auth=Bearer(),
    response={201: RotatedOut},
    operation_id="rotate_itself",
    summary="Rotate yourself",
    openapi_extra=docs.change("", 403, 404, 409, once=True),
)
def key_rotate_itself(
    request: ApiRequest, body: Annotated[SelfRotationRequest | None, Body()] = None
) -> HttpResponse:
    """The key that asks gets a new secret: with its newest one, and `grace` alone. No scope is needed."""
    asked = body or SelfRotationRequest()
    own = request.auth.key.id
    if asked.key_id not in {None, own}:
        require(request.auth, "keys:rotate")
    return _rotate(request, asked.key_id or own, asked)


def _rotate(request: ApiRequest, key_id: str, asked: RotationRequest) -> HttpResponse:
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, RotatedOut]:
        rotated = services.rotate_key(
            find(request, key_id),
            actor=caller,
            mode=Mode(asked.mode),
            grace_seconds=asked.grace_seconds,
            version=asked.version,
            targets=asked.targets or (),
            quiet_seconds=asked.quiet_seconds,
            deadline=asked.deadline,
        )
        now = clock.now()
        return HTTPStatus.CREATED, RotatedOut(
            rotation=present.one_rotation(rotated.rotation, now),
            key=present.key(rotated.key, now),
            secret=rotated.secret,
        )

    return running.change_once(request, act)
