from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from orgs import access, services
from orgs.answers import see_other
from orgs.errors import OrgsError
from orgs.forms import EnvironmentForm, EnvironmentNameForm, refuse
from orgs.requests import MemberRequest
from orgs.roles import Permission


@require_safe
def environments(request: MemberRequest) -> HttpResponse:
    context = {
        "environments": access.environments(request.member),
        "may_change": request.member.may(Permission.ORGANIZATION_CONFIGURE),
    }
    return render(request, "orgs/environments.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def environment_create(request: MemberRequest) -> HttpResponse:
    member = request.member
    access.require(member, Permission.ORGANIZATION_CONFIGURE)
    form = EnvironmentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.create_environment(member.organization, actor=member, **form.cleaned_data)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The environment was made.")
            return see_other("orgs:environments")
    return render(request, "orgs/environment_create.html", {"form": form})


@require_http_methods(["GET", "HEAD", "POST"])
def environment_rename(request: MemberRequest, environment_id: str) -> HttpResponse:
    environment = access.environment_for_change(request.member, environment_id)
    form = EnvironmentNameForm(request.POST or None, initial={"name": environment.name})
    if request.method == "POST" and form.is_valid():
        try:
            services.rename_environment(environment, form.cleaned_data["name"], actor=request.member)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The environment was renamed.")
            return see_other("orgs:environments")
    return render(request, "orgs/environment_rename.html", {"form": form, "environment": environment})


@require_http_methods(["GET", "HEAD", "POST"])
def environment_archive(request: MemberRequest, environment_id: str) -> HttpResponse:
    environment = access.environment_for_change(request.member, environment_id)
    refused = ""
    if request.method == "POST":
        try:
            services.archive_environment(environment, actor=request.member)
        except OrgsError as error:
            refused = error.detail
        else:
            messages.success(request, "The environment was archived.")
            return see_other("orgs:environments")
    return render(request, "orgs/environment_archive.html", {"environment": environment, "refused": refused})
