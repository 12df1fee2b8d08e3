"""Finds out who asks, and runs the page inside their organization's rows and its ledger's transaction."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.http import HttpResponseBase
from django.shortcuts import redirect, render, resolve_url
from django.template.response import SimpleTemplateResponse
from django.utils import timezone
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect

from audit import ledger, tenancy
from audit.actors import Actor
from audit.support import browser
from orgs import visits
from orgs.members import Member, grants
from orgs.models import Membership, Project
from orgs.requests import PageRequest

ORGANIZATION, PROJECT = "organization", "project"
STARTED, SEEN = "started_at", "seen_at"
SEEN_EVERY = timedelta(minutes=1)
# A header of what a page asks by the clock (app.js).
POLL = "Keystead-Poll"
ADMIN_SITE = "admin"

View = Callable[..., HttpResponseBase]


class MemberMiddleware:
    """Set `request.member` and wrap the view. Last of all: its `process_view` calls the view itself."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: PageRequest) -> HttpResponseBase:
        request.member = None
        request.organizations = []
        request.visit = None
        return self.get_response(request)

    def process_view(
        self, request: PageRequest, view: View, args: Any, kwargs: Any
    ) -> HttpResponseBase | None:
        """Answer public pages and `/v1` as they are; everything else inside the member's transaction."""
        visits.refuse_changes(request)
        if not getattr(view, "login_required", True) or not request.user.is_authenticated:
            return None
        if (over := _over(request)) is not None:
            return over
        if request.visit is not None:
            return visits.show(request, view, request.actor, *args, **kwargs)
        if getattr(view, "of_staff", False):
            return None
        return _as_member(request, view, *args, **kwargs)


class SignInMiddleware(LoginRequiredMiddleware):
    """Django's, which would have htmx swap the sign-in page into a part of the page that it asked from."""

    def handle_no_permission(self, request: Any, view_func: View) -> Any:
        """Redirect to the sign-in page; a request of htmx is told to go there with the whole window."""
        response = super().handle_no_permission(request, view_func)
        if not request.htmx:
            return response
        here = request.htmx.current_url_abs_path or settings.LOGIN_REDIRECT_URL
        return HttpResponseClientRedirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': here})}")


def _over(request: PageRequest) -> HttpResponseBase | None:
    """Return where to go where the session or what support staff opened in it is over, else None."""
    if _is_over(request):
        logout(request)
        return redirect(settings.LOGIN_URL)
    request.actor = actor(request)
    return visits.resume(request)


def _as_member(request: PageRequest, view: View, *args: Any, **kwargs: Any) -> HttpResponseBase | None:
    _load(request)
    outside = _is_outside(request, view)
    if request.member is None:
        return None if outside else _nowhere(request)
    with tenancy.within(request.member.organization_id):
        _choose_project(request)
        if outside:
            return None
        with ledger.recording(request.member.organization_id, request.member, is_last=True):
            return _finished(view(request, *args, **kwargs))


def _finished(response: HttpResponseBase) -> HttpResponseBase:
    """Render a lazy response now: its lists must be read inside the organization's transaction."""
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


def outside_organization[V: View](view: V) -> V:
    """Mark a view for signed-in people that opens its own transactions and needs no organization."""
    view.in_organization = False  # type: ignore[attr-defined]
    return view


def _nowhere(request: PageRequest) -> HttpResponseBase:
    """Answer somebody who belongs to no organization; support staff have the console for that."""
    if browser.is_staff(request.user):
        return redirect(visits.CONSOLE)
    return render(request, "orgs/nowhere.html")


def _is_outside(request: PageRequest, view: View) -> bool:
    # The admin site works in every organization, and opens its own transaction.
    match = request.resolver_match
    return not getattr(view, "in_organization", True) or (match is not None and match.app_name == ADMIN_SITE)


def _is_over(request: PageRequest) -> bool:
    """Return whether the session has reached its absolute age, and note that it is in use otherwise."""
    now = timezone.now()
    started = request.session.setdefault(STARTED, now.timestamp())
    if now.timestamp() - started > settings.SESSION_ABSOLUTE_AGE.total_seconds():
        return True
    # What a page asks by the clock is no use of it: nobody may sit there any more.
    if POLL in request.headers:
        return False
    if now.timestamp() - request.session.get(SEEN, 0) > SEEN_EVERY.total_seconds():
        request.session[SEEN] = now.timestamp()
    return False


def _load(request: PageRequest) -> None:
    """Find the person's organizations, and make the chosen one (else the first by name) the active one."""
    with tenancy.everywhere(tenancy.Reason.AUTHENTICATION):
        rows = list(
            Membership.objects.filter(user=request.user)
            .select_related("organization__plan", "project")
            .order_by("organization__name", "organization_id")
        )
    by_organization = {key: list(group) for key, group in groupby(rows, key=lambda m: m.organization_id)}
    request.organizations = [(key, group[0].organization.name) for key, group in by_organization.items()]
    chosen = request.session.get(ORGANIZATION)
    mine = by_organization.get(chosen) or next(iter(by_organization.values()), None)
    if mine is None:
        return
    who = actor(request)
    request.member = Member(
        **{name: getattr(who, name) for name in who.__dataclass_fields__},
        user=request.user,
        organization=mine[0].organization,
        project=None,
        grants=grants(mine),
    )


def _choose_project(request: PageRequest) -> None:
    """Apply the chosen project where it is still there and reachable."""
    member, project_id = request.member, request.session.get(PROJECT)
    if member is None or not project_id:
        return
    project = Project.objects.of(member.organization_id).filter(pk=project_id, archived_at=None).first()
    if project is not None and member.role_at(project) is not None:
        request.member = replace(member, project=project)


def actor(request: PageRequest) -> Actor:
    """Return the signed-in person as the ledger knows them, whatever their organization."""
    return Actor(
        id=request.user.id,
        name=request.user.name,
        email=request.user.email,
        ip=request.client_ip,
        user_agent=request.headers.get("User-Agent", "")[:256],
        request_id=request.request_id,
    )
