"""New key, and the one answer that shows its secret."""

from functools import partial
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.views.decorators.http import require_http_methods, require_POST

from keys import access, clock, services
from keys.callers import Caller
from keys.errors import KeysError
from keys.forms.creation import CreationForm, like, typed
from keys.listing import ID
from keys.models import ApiKey
from keys.once import AlreadyDone, once
from keys.pages import plan as plan_page
from keys.pages.words import KIND_CARDS
from keys.scopes import BREAK_GLASS
from keys.services import Created
from keys.views import common
from orgs.models import Project
from orgs.requests import MemberRequest


@require_http_methods(["GET", "HEAD", "POST"])
def key_new(request: MemberRequest) -> HttpResponse:
    """Offer the form; create what it asks for, once, and show the secret."""
    caller, posted = common.caller(request), request.POST if request.method == "POST" else None
    model = _model(request)
    begun = like(model, request.member) if model else {}
    form = CreationForm(posted, caller=caller, projects=_projects(request), initial=begun)
    form.follow_rule()
    if form.is_bound and form.is_valid():
        try:
            created = _create(form, caller)
        except AlreadyDone as done:
            return common.already_done(request, done.key_id)
        except KeysError as error:
            common.attach(form, error)
        else:
            return common.show_secret(request, created.key, created.secret)
    return common.answer(request, "keys/new.html", _context(form) | {"model": model})


@require_POST
def key_preview(request: MemberRequest) -> HttpResponse:
    """Say what the key of a half-filled form could do; change nothing."""
    is_live = bool(request.htmx)
    form = CreationForm(
        initial=typed(request.POST),
        caller=common.caller(request),
        projects=_projects(request),
        is_live=is_live,
    )
    if "preset" in request.POST:
        form.apply_preset(request.POST["preset"])
    offered_for = request.POST.get("offered_for", "")
    form.follow_rule(offered_for)
    is_stale = offered_for != form.offered_for
    return common.part_or_page(request, "keys/new.html", "answer", _context(form) | {"is_stale": is_stale})


def _model(request: MemberRequest) -> ApiKey | None:
    """Return the key that the new one is to be like, as an incident's page offers; raises `Http404`."""
    key_id = request.GET.get("like", "")
    if not key_id:
        return None
    if ID.fullmatch(key_id) is None:
        raise Http404
    return access.key(request.member, key_id)


def _projects(request: MemberRequest) -> list[Project]:
    projects = access.projects_for_creation(request.member)
    if not projects:
        raise PermissionDenied("You may not create keys in any project.")
    return projects


def _create(form: CreationForm, caller: Caller) -> Created:
    draft = form.draft(clock.now())
    return once(
        form.cleaned_data["token"],
        partial(services.create_key, draft, actor=caller),
        key_id_of=lambda created: created.key.id,
        actor=caller,
        organization_id=draft.project.organization_id,
    )


def _context(form: CreationForm) -> dict[str, Any]:
    wants_break_glass = BREAK_GLASS in (form["scopes"].value() or ())
    return {
        "form": form,
        "groups": form.scope_groups(),
        "kind_cards": KIND_CARDS,
        "summary": form.summary(),
        "room": plan_page.room(form.member.organization_id, clock.now()),
        "needs_step_up": wants_break_glass and not form.caller.has_stepped_up,
    }
