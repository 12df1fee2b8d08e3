"""Rotating a key, or the very key that asks: the swap without downtime."""

from http import HTTPStatus
from typing import Annotated, Final, Protocol

from django.http import HttpResponse
from ninja import Body, Router
from pydantic import ConfigDict

from keys import access, clock, scopes, services, turning
from keys.api import docs, present, running
from keys.api.answers import RotatedOut, RotationOut
from keys.api.auth import ApiRequest, Bearer, require
from keys.api.keys import find
from keys.api.paging import check_names
from keys.api.requests import RotationRequest, SelfRotationRequest, Strict
from keys.callers import Caller
from keys.models import Rotation
from keys.rotation import Mode
from keys.services import auto_rotation

router = Router(tags=["Rotation"])
SCOPE: Final = "keys:rotate"


class Ending(Protocol):
    """A service that ends a rotation."""

    def __call__(self, found: Rotation, *, actor: Caller) -> Rotation:
        """Return the rotation as it ended."""


@router.post(
    "/api-keys/{key_id}/rotate",
    auth=Bearer(SCOPE),
    response={201: RotatedOut},
    operation_id="rotate_key",
    summary="Rotate a key",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def key_rotate(
    request: ApiRequest, key_id: str, body: Annotated[RotationRequest | None, Body()] = None
) -> HttpResponse:
    """A new secret on the same key. Without a body: `grace`, the old one lives for a day.

    `staged`: both are accepted until every one of the `targets` has moved, that is until the new secret was used in
    that region and the old one was not for `quiet_seconds`. Then it completes by itself.
    """
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
    """The key that asks gets a new secret: with its newest one, by `grace` or `staged`. No scope is needed."""
    asked = body or SelfRotationRequest()
    own = request.auth.key.id
    if asked.key_id not in {None, own}:
        require(request.auth, SCOPE)
    return _rotate(request, asked.key_id or own, asked)


class Nothing(Strict):
    """Nothing needs to be said."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


@router.get(
    "/rotations/{rotation_id}",
    auth=Bearer(),
    response=RotationOut,
    operation_id="get_rotation",
    summary="See a rotation",
    openapi_extra=docs.read(SCOPE, 403, 404),
)
def rotation_get(request: ApiRequest, rotation_id: str) -> HttpResponse:
    """How far it has come. A key's newest secret sees its own key's, without a scope.

    `sealed_secret` is handed out to another key with the scope, and once: the server forgets it as it does, with the
    entry `rotation.fetched`, unless a webhook `rotation.started` has yet to be delivered. Fetch it with what holds
    the private key.
    """
    check_names(request)

    def act(caller: Caller) -> RotationOut:
        found, now = _find(request, rotation_id), clock.now()
        sealed = auto_rotation.hand_out(found, now, actor=caller) if _may_fetch(request, found) else None
        return present.one_rotation(found, now, sealed)

    return running.read(request, act)


def _may_fetch(request: ApiRequest, found: Rotation) -> bool:
    """Tell whether the caller is handed the sealed secret, which is then gone.

    Never the rotating key itself: its newest secret has no need of it, and with its old one, perhaps a stolen one,
    somebody could take it away from the recipient, who would be locked out as the grace ends.
    """
    presented = request.auth
    return presented.key.id != found.key_id and not scopes.missing(presented.scopes, [SCOPE])


@router.post(
    "/rotations/{rotation_id}/complete",
    auth=Bearer(),
    response=RotationOut,
    operation_id="complete_rotation",
    summary="Complete a rotation",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def rotation_complete(
    request: ApiRequest,
    rotation_id: str,
    body: Annotated[Nothing | None, Body()] = None,  # noqa: ARG001 - it is checked
) -> HttpResponse:
    """The old secret is refused from the answer on. A key's newest secret may do it, without a scope."""
    return _end(request, rotation_id, services.complete_rotation)


@router.post(
    "/rotations/{rotation_id}/cancel",
    auth=Bearer(),
    response=RotationOut,
    operation_id="cancel_rotation",
    summary="Cancel a rotation",
    openapi_extra=docs.change(SCOPE, 403, 404, 409, once=True),
)
def rotation_cancel(
    request: ApiRequest,
    rotation_id: str,
    body: Annotated[Nothing | None, Body()] = None,  # noqa: ARG001
) -> HttpResponse:
    """The new secret is refused from the answer on, and the key goes by the old one, while that is still accepted.

    A key's newest secret may do it, without a scope.
    """
    return _end(request, rotation_id, services.cancel_rotation)


def _end(request: ApiRequest, rotation_id: str, service: Ending) -> HttpResponse:
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, RotationOut]:
        ended = service(_find(request, rotation_id), actor=caller)
        return HTTPStatus.OK, present.one_rotation(ended, clock.now())

    return running.change_once(request, act)


def _find(request: ApiRequest, rotation_id: str) -> Rotation:
    """Return a rotation of the caller's own key or, with the scope, one that it sees; a stranger's is unknown."""
    name = rotation_id if turning.ID.fullmatch(rotation_id) else ""
    own = access.rotation_of_itself(request.auth, name)
    if own is not None:
        return own
    require(request.auth, SCOPE)
    return access.rotation_of_presented(request.auth, name)


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
