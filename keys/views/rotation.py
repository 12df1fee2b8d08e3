"""Rotating a key, and the one answer that shows the new secret."""

from functools import partial
from http import HTTPStatus
from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from keys import access, clock, history, offers, services
from keys.callers import Caller
from keys.errors import Conflict, KeysError, RotationRunning
from keys.forms.rotation import MODE_CARDS, RotateForm
from keys.models import ApiKey
from keys.models.key import Status
from keys.once import AlreadyDone, new_token, once
from keys.services import Rotated
from keys.views import common
from orgs.requests import MemberRequest


@require_http_methods(["GET", "HEAD", "POST"])
def key_rotate(request: MemberRequest, key_id: str) -> HttpResponse:
    """Offer the modes; rotate, once, and show the new secret."""
    key, caller = access.key_for_change(request.member, key_id), common.caller(request)
    form = RotateForm(
        request.POST if request.method == "POST" else None, initial={"version": key.newest_version}
    )
    if form.is_bound and form.is_valid():
        try:
            rotated = _rotate(key, form, caller)
        except AlreadyDone as done:
            return common.already_done(request, done.key_id)
        except Conflict as error:
            return _refused(request, key_id, form, error)
        except KeysError as error:
            common.attach(form, error)
        else:
            drawn = history.timeline_of(rotated.rotation, rotated.rotation.started_at)
            return common.show_secret(
                request, rotated.key, rotated.secret, rotation=rotated.rotation, timeline=drawn
            )
    return common.answer(request, "keys/rotate.html", _context(key, form, caller))


@require_POST
def key_rotate_preview(request: MemberRequest, key_id: str) -> HttpResponse:
    """Draw what a rotation would do; change nothing."""
    key = access.key_for_change(request.member, key_id)
    typed = {name: request.POST.get(name) for name in RotateForm.base_fields}
    form = RotateForm(initial=typed)
    context = _context(key, form, common.caller(request))
    return common.part_or_page(request, "keys/rotate.html", "drawn", context)


def _rotate(key: ApiKey, form: RotateForm, caller: Caller) -> Rotated:
    act = partial(
        services.rotate_key,
        key,
        actor=caller,
        mode=form.mode_chosen,
        grace_seconds=form.grace_seconds,
        version=form.cleaned_data["version"],
    )
    return once(
        form.cleaned_data["token"],
        act,
        key_id_of=lambda rotated: rotated.key.id,
        actor=caller,
        organization_id=key.organization_id,
    )


def _refused(request: MemberRequest, key_id: str, form: RotateForm, error: Conflict) -> HttpResponse:
    """Show the page again as the key is now, with the choices kept and the version that it has come to."""
    key = access.key_for_change(request.member, key_id)
    kept = {"mode": form["mode"].value(), "grace": form["grace"].value()}
    again = RotateForm(initial={**kept, "version": key.newest_version, "token": new_token()})
    problem = "" if isinstance(error, RotationRunning) else error.detail
    context = _context(key, again, common.caller(request)) | {"problem": problem}
    return common.answer(request, "keys/rotate.html", context, status=HTTPStatus.CONFLICT)


def _context(key: ApiKey, form: RotateForm, caller: Caller) -> dict[str, Any]:
    now = clock.now()
    end = now + form.grace_shown
    newest = history.versions(key, now)[0].secret
    end = end if newest.expires_at is None else min(end, newest.expires_at)
    return {
        "form": form,
        "key": key,
        "mode_cards": MODE_CARDS,
        "running": history.running(key, now),
        "status": key.status(now),
        "can_rotate": key.status(now) is Status.ACTIVE,
        "excess": offers.excess(key, caller),
        "timeline": history.timeline(key.newest_version, key.newest_version + 1, start=now, end=end, now=now),
        "ends_at": end,
        "is_cut": newest.expires_at is not None and end == newest.expires_at,
        "use": history.use(key),
    }
