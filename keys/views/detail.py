"""A key: its overview, activity and effective permissions, and the forms that edit it in place."""

from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from audit import access as log
from keys import access, clock, services
from keys.errors import Conflict, Forbidden, KeysError, NameTaken
from keys.forms.detail import DetailsForm, EditForm, LimitsForm, RotationForm, ScopesForm
from keys.models import ApiKey
from keys.pages import blast, history, limit_words, rows
from keys.views import common
from orgs.answers import see_other
from orgs.requests import MemberRequest

MOST_ENTRIES: Final = 50


@require_safe
def key_detail(request: MemberRequest, key_id: str) -> HttpResponse:
    """Show all that there is to know of a key but its use."""
    return overview(request, access.key(request.member, key_id))


def overview(
    request: MemberRequest, key: ApiKey, *, problem: str = "", status: HTTPStatus = HTTPStatus.OK
) -> HttpResponse:
    """Render the overview; with what went wrong, where another act had to be refused."""
    now = clock.now()
    running = history.running(key, now)
    context = {
        **header(request, key, now),
        "tab": "overview",
        "problem": problem,
        "versions": history.versions(key, now),
        "turns": history.turns(key, now),
        "running": running,
        "timeline": running and history.timeline_of(running, now),
        "limit": limit_words.of_key(key),
        "summary": blast.summary_of(key),
        "reach": blast.reach(key, now),
        "leaks": history.leaks(key),
        "creator": history.names_of([key.created_by]).get(key.created_by, key.created_by),
        "revoker": history.names_of([key.revoked_by]).get(key.revoked_by, key.revoked_by),
    }
    return common.answer(request, "keys/detail.html", context, status=status)


@require_safe
def key_activity(request: MemberRequest, key_id: str) -> HttpResponse:
    """Show the key's entries in the ledger, as far as the person reads it."""
    key = access.key(request.member, key_id)
    lines = log.entries_for_target(request.member, key.id, limit=MOST_ENTRIES)
    context = {
        **header(request, key, clock.now()),
        "tab": "activity",
        "lines": lines,
        "is_cut": len(lines) == MOST_ENTRIES,
        "sees_all": request.member.reads_whole_log,
    }
    return common.answer(request, "keys/activity.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def key_edit(request: MemberRequest, key_id: str) -> HttpResponse:
    return _edit(request, key_id, DetailsForm)


@require_http_methods(["GET", "HEAD", "POST"])
def key_edit_scopes(request: MemberRequest, key_id: str) -> HttpResponse:
    return _edit(request, key_id, ScopesForm)


@require_http_methods(["GET", "HEAD", "POST"])
def key_edit_limits(request: MemberRequest, key_id: str) -> HttpResponse:
    return _edit(request, key_id, LimitsForm)


@require_http_methods(["GET", "HEAD", "POST"])
def key_edit_rotation(request: MemberRequest, key_id: str) -> HttpResponse:
    return _edit(request, key_id, RotationForm)


def _edit(request: MemberRequest, key_id: str, part: type[EditForm]) -> HttpResponse:
    key, caller = access.key_for_change(request.member, key_id), common.caller(request)
    form = part(request.POST if request.method == "POST" else None, key=key, caller=caller)
    if form.is_bound and form.is_valid():
        try:
            services.change_key(key, form.changes(clock.now()), actor=caller)
        except Conflict as error:
            if not isinstance(error, NameTaken):
                return refused(request, key_id, error)
            common.attach(form, error)
        except KeysError as error:
            common.attach(form, error)
        else:
            messages.success(request, f"{form.title}: saved.")
            return see_other("keys:detail", key.id)
    return common.answer(request, "keys/edit.html", {"form": form, "key": key})


def refused(request: MemberRequest, key_id: str, error: KeysError) -> HttpResponse:
    """Answer a change that came too late, or at the wrong time: the key as it is now, and why."""
    key = access.key(request.member, key_id)
    status = HTTPStatus.FORBIDDEN if isinstance(error, Forbidden) else HTTPStatus.CONFLICT
    return overview(request, key, problem=error.detail, status=status)


def header(request: MemberRequest, key: ApiKey, now: datetime) -> dict[str, Any]:
    """Return what every tab of a key shows above."""
    row = rows.of([key], request.member, now)[0]
    return {"key": key, "row": row, "now": now}
