from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from orgs import access, services
from orgs.answers import see_other
from orgs.errors import OrgsError
from orgs.forms import OrganizationForm, refuse
from orgs.requests import MemberRequest
from orgs.roles import Permission


@require_safe
def settings(request: MemberRequest) -> HttpResponse:  # noqa: ARG001
    return see_other("orgs:organization")


@require_http_methods(["GET", "HEAD", "POST"])
def organization(request: MemberRequest) -> HttpResponse:
    mine = request.member.organization
    form = OrganizationForm(request.POST or None, initial={"name": mine.name, "slug": mine.slug})
    if request.method == "POST":
        access.require(request.member, Permission.ORGANIZATION_CONFIGURE)
        if form.is_valid():
            try:
                services.change_organization(mine, actor=request.member, **form.cleaned_data)
            except OrgsError as error:
                refuse(form, error)
            else:
                messages.success(request, "The organization was changed.")
                return see_other("orgs:organization")
    may_change = request.member.may(Permission.ORGANIZATION_CONFIGURE)
    return render(request, "orgs/organization.html", {"form": form, "may_change": may_change})
