"""Choosing what to look at."""

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_POST

from orgs import access
from orgs.answers import own_url, see_other
from orgs.middleware import ORGANIZATION, PROJECT
from orgs.requests import MemberRequest


@require_POST
def switch_organization(request: MemberRequest) -> HttpResponse:
    chosen = request.POST.get("organization", "")
    if chosen not in dict(request.organizations):
        raise Http404
    request.session[ORGANIZATION] = chosen
    request.session.pop(PROJECT, None)
    return see_other("/")


@require_POST
def switch_project(request: MemberRequest) -> HttpResponse:
    chosen = request.POST.get("project", "")
    if chosen:
        request.session[PROJECT] = access.project(request.member, chosen).id
    else:
        request.session.pop(PROJECT, None)
    return see_other(own_url(request, request.POST.get("next", "")))
