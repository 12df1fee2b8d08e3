"""Joining an organization by an invitation's link.

The token leaves the address at once: the session keeps its digest, and what follows happens at an address without it.
"""

from http import HTTPStatus

from allauth.account.utils import perform_login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from audit.actors import Actor
from orgs import access, invitations, services
from orgs.answers import see_other
from orgs.errors import AlreadyMember, OrgsError
from orgs.forms import JoinForm, refuse
from orgs.limits import limit_joining
from orgs.middleware import ORGANIZATION, PROJECT, actor
from orgs.models import Invitation
from orgs.models.user import new_user_id
from orgs.requests import PageRequest

INVITATION = "invitation"


@login_not_required
@require_safe
def invitation(request: PageRequest, token: str) -> HttpResponse:
    request.logged_path = "/join/…"
    digest = invitations.digest(token)
    if invitations.find_open(digest) is None:
        return _dead(request)
    request.session[INVITATION] = digest.hex()
    return see_other("orgs:join")


@login_not_required
@limit_joining
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: PageRequest) -> HttpResponseBase:
    """Show who asks one in; a POST joins with the account that is signed in."""
    found = _invited(request)
    if found is None:
        return _dead(request)
    context: dict[str, object] = {"invitation": found}
    if request.method == "POST" and request.user.is_authenticated:
        try:
            services.accept_invitation(bytes(found.digest), request.user, actor=actor(request))
        except AlreadyMember:
            pass
        except OrgsError as error:
            return render(request, "orgs/join.html", context | {"refused": error.detail})
        return _arrive(request, found)
    if not request.user.is_authenticated:
        context["form"] = JoinForm(email=found.email)
        context["has_account"] = access.has_account(found.email)
    return render(request, "orgs/join.html", context)


@login_not_required
@limit_joining
@require_POST
@sensitive_post_parameters("password")
def join_new(request: PageRequest) -> HttpResponseBase:
    """Make the account of somebody new, let them join, and sign them in."""
    found = _invited(request)
    if found is None or request.user.is_authenticated:
        return _dead(request) if found is None else see_other("orgs:join")
    form = JoinForm(request.POST, email=found.email)
    if form.is_valid():
        try:
            membership = services.join_with_new_account(
                bytes(found.digest), actor=_newcomer(request, found.email), **form.cleaned_data
            )
        except OrgsError as error:
            refuse(form, error)
        else:
            perform_login(request, membership.user, email_verification="none")
            return _arrive(request, found)
    context = {"invitation": found, "form": form, "has_account": access.has_account(found.email)}
    return render(request, "orgs/join.html", context)


def _invited(request: PageRequest) -> Invitation | None:
    kept = request.session.get(INVITATION)
    return invitations.find_open(bytes.fromhex(kept)) if kept else None


def _dead(request: PageRequest) -> HttpResponse:
    request.session.pop(INVITATION, None)
    return render(request, "orgs/invitation_dead.html", status=HTTPStatus.NOT_FOUND)


def _arrive(request: PageRequest, found: Invitation) -> HttpResponse:
    request.session.pop(INVITATION, None)
    request.session.pop(PROJECT, None)
    request.session[ORGANIZATION] = found.organization_id
    return see_other("/")


def _newcomer(request: PageRequest, email: str) -> Actor:
    return Actor(
        id=new_user_id(),
        name=request.POST.get("name", "")[:100],
        email=email,
        ip=request.client_ip,
        user_agent=request.headers.get("User-Agent", "")[:256],
        request_id=request.request_id,
    )
