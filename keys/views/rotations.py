"""Rotations: the list, the page that one watches, and the two ways to end one by hand."""

from http import HTTPStatus
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from keys import access, clock, progress, services, turning
from keys.errors import Conflict
from keys.forms.rotation import EndForm
from keys.models import Rotation
from keys.pages import history, words
from keys.rotation import State
from keys.views import common
from orgs.answers import see_other
from orgs.requests import MemberRequest
from orgs.roles import Permission

PLACE: Final = {"place": "rotations"}


@require_safe
def rotation_list(request: MemberRequest) -> HttpResponse:
    """Show the rotations of the keys that the person sees: those that run, then the others."""
    found = turning.listed(access.rotations(request.member), request.GET, clock.now())
    return common.answer(request, "keys/rotations.html", {"listed": found, **PLACE})


@require_safe
def rotation_detail(request: MemberRequest, rotation_id: str) -> HttpResponse:
    """Show how far a rotation has come; while somebody watches, the page asks for its live part again."""
    found = access.rotation(request.member, rotation_id)
    return common.part_or_page(request, "keys/rotation.html", "live", _context(request, found))


@require_http_methods(["GET", "HEAD", "POST"])
def rotation_complete(request: MemberRequest, rotation_id: str) -> HttpResponse:
    """Say who would fail, and retire the old secret; whoever breaks somebody says that they know."""
    found = access.rotation_for_change(request.member, rotation_id)
    form = EndForm(request.POST if request.method == "POST" else None)
    context = _context(request, found)
    if request.method == "POST" and (form.is_valid() or not context["reached"].breaking_calls):
        try:
            services.complete_rotation(found, actor=common.caller(request))
        except Conflict as error:
            return _refused(request, rotation_id, error)
        messages.success(request, f"Version {found.old_version} is refused from now on.")
        return see_other("keys:rotation", found.id)
    return _asked(request, "keys/rotation_complete.html", context, form)


@require_http_methods(["GET", "HEAD", "POST"])
def rotation_cancel(request: MemberRequest, rotation_id: str) -> HttpResponse:
    """Say who would fail, and go back to the old secret; whoever breaks somebody says that they know."""
    found = access.rotation_for_change(request.member, rotation_id)
    form = EndForm(request.POST if request.method == "POST" else None)
    context = _context(request, found)
    if request.method == "POST" and (form.is_valid() or not context["reached"].new_calls):
        try:
            services.cancel_rotation(found, actor=common.caller(request))
        except Conflict as error:
            return _refused(request, rotation_id, error)
        messages.success(request, f"The key goes by version {found.old_version} again.")
        return see_other("keys:rotation", found.id)
    return _asked(request, "keys/rotation_cancel.html", context, form)


def _asked(request: MemberRequest, template: str, context: dict[str, Any], form: forms.Form) -> HttpResponse:
    return common.answer(request, template, {**context, "form": form})


def _refused(request: MemberRequest, rotation_id: str, error: Conflict) -> HttpResponse:
    """Show the rotation as it is now: somebody else, or time, was faster."""
    context = _context(request, access.rotation(request.member, rotation_id)) | {"problem": error.detail}
    return common.answer(request, "keys/rotation.html", context, status=HTTPStatus.CONFLICT)


def _context(request: MemberRequest, found: Rotation) -> dict[str, Any]:
    now = clock.now()
    reached = progress.of(found, now, has_sources=True)
    state = found.state(now)
    seen = f"{state}-{len(reached.moved)}"
    enders = found.completed_by or found.cancelled_by
    people = history.names_of({found.started_by, enders} - {""})
    turn = history.turns_of([found], now)[0]
    return {
        **PLACE,
        "rotation": found,
        "key": found.key,
        "reached": reached,
        "state": state,
        "is_running": state is State.RUNNING,
        "is_overdue": found.is_overdue(now),
        "timeline": history.timeline_of(found, now),
        "starter": people.get(found.started_by, words.of_system(found.started_by)),
        "ended_by": people.get(enders, words.of_system(enders)),
        "ended_at": turn.ended_at,
        "quiet": words.lasting(found.quiet_seconds or 0),
        "may_change": request.member.may(Permission.KEYS_CHANGE, found.key.project),
        "seen": seen,
        "is_news": request.GET.get("seen", seen) != seen,
        "now": now,
    }
