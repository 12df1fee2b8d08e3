"""Rotating a key, and the one answer that shows the new secret."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from keys import access, clock, progress, services
from keys.callers import Caller
from keys.errors import Conflict, KeysError, RotationRunning
from keys.forms.rotation import MODE_CARDS, RotateForm
from keys.models import ApiKey
from keys.models.key import Status
from keys.once import AlreadyDone, new_token, once
from keys.pages import history, offers
from keys.rotation import NO_END, Mode
from keys.services import Rotated
from keys.services.common import policy_of
from keys.views import common
from orgs.requests import MemberRequest


@require_http_methods(["GET", "HEAD", "POST"])
def key_rotate(request: MemberRequest, key_id: str) -> HttpResponse:
    """Offer the modes; rotate, once, and show the new secret."""
    key, caller = access.key_for_change(request.member, key_id), common.caller(request)
    form = RotateForm(
        request.POST if request.method == "POST" else None,
        initial={"version": key.newest_version, "targets": progress.regions(key, clock.now())},
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
        **form.wish,
        deadline=clock.now() + form.deadline_shown if form.mode_chosen is Mode.STAGED else None,
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
    kept = {name: form[name].value() for name in ("mode", "grace", "targets", "quiet", "deadline")}
    again = RotateForm(initial={**kept, "version": key.newest_version, "token": new_token()})
    problem = "" if isinstance(error, RotationRunning) else error.detail
    context = _context(key, again, common.caller(request)) | {"problem": problem}
    return common.answer(request, "keys/rotate.html", context, status=HTTPStatus.CONFLICT)


def _context(key: ApiKey, form: RotateForm, caller: Caller) -> dict[str, Any]:
    now = clock.now()
    return {
        "form": form,
        "key": key,
        "mode_cards": MODE_CARDS,
        "running": history.running(key, now),
        "status": key.status(now),
        "can_rotate": key.status(now) is Status.ACTIVE,
        "excess": offers.excess(key, caller),
        "use": history.use(key),
        **_drawn(key, form, now),
    }


def _drawn(key: ApiKey, form: RotateForm, now: datetime) -> dict[str, Any]:
    """Return the time line of what is chosen: until when the old secret would be accepted, and why not longer."""
    is_staged = form.mode_chosen is Mode.STAGED
    deadline = now + form.deadline_shown if is_staged else None
    is_cut_off = is_staged and policy_of(key.organization_id).staged_cut_off_at_deadline
    wanted = NO_END if is_staged else now + form.grace_shown
    if is_cut_off and deadline is not None:
        wanted = deadline
    expiry = history.versions(key, now)[0].secret.expires_at
    end = wanted if expiry is None else min(wanted, expiry)
    drawn = history.timeline(
        key.newest_version, key.newest_version + 1, start=now, end=end, now=now, deadline=deadline
    )
    return {
        "timeline": drawn,
        "ends_at": None if end >= NO_END else end,
        "is_cut": expiry is not None and end == expiry,
        "is_cut_off": is_cut_off,
        "deadline": deadline,
    }
