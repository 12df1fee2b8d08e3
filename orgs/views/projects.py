from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods, require_safe

from orgs import access, services
from orgs.answers import see_other
from orgs.errors import OrgsError
from orgs.forms import ProjectForm, ScopesForm, refuse
from orgs.requests import MemberRequest
from orgs.roles import Permission


@require_safe
def projects(request: MemberRequest) -> HttpResponse:
    member = request.member
    rows = [
        {
            "project": project,
            "may_extend": member.may(Permission.ORGANIZATION_CONFIGURE, project),
            "may_change": member.may(Permission.ORGANIZATION_CONFIGURE, project.parent),
        }
        for project in access.projects(member)
    ]
    return render(request, "orgs/projects.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
def project_create(request: MemberRequest, project_id: str) -> HttpResponse:
    parent = access.project_to_extend(request.member, project_id)
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.create_project(parent, form.cleaned_data["name"], actor=request.member)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The project was made.")
            return see_other("orgs:projects")
    return render(request, "orgs/project_create.html", {"form": form, "parent": parent})


@require_http_methods(["GET", "HEAD", "POST"])
def project_rename(request: MemberRequest, project_id: str) -> HttpResponse:
    project = access.project_for_change(request.member, project_id)
    form = ProjectForm(request.POST or None, initial={"name": project.name})
    if request.method == "POST" and form.is_valid():
        try:
            services.rename_project(project, form.cleaned_data["name"], actor=request.member)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "The project was renamed.")
            return see_other("orgs:projects")
    return render(request, "orgs/project_rename.html", {"form": form, "project": project})


@require_http_methods(["GET", "HEAD", "POST"])
def project_scopes(request: MemberRequest, project_id: str) -> HttpResponse:
    project = access.project_for_change(request.member, project_id)
    initial = {
        "narrows": "" if project.scopes is None else "listed",
        "scopes": "\n".join(project.scopes or []),
    }
    form = ScopesForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            services.set_project_scopes(project, form.wanted(), actor=request.member)
        except OrgsError as error:
            refuse(form, error)
        else:
            messages.success(request, "What keys may do in the project was changed.")
            return see_other("orgs:projects")
    return render(request, "orgs/project_scopes.html", {"form": form, "project": project})


@require_http_methods(["GET", "HEAD", "POST"])
def project_archive(request: MemberRequest, project_id: str) -> HttpResponse:
    project = access.project_for_change(request.member, project_id)
    refused = ""
    if request.method == "POST":
        try:
            services.archive_project(project, actor=request.member)
        except OrgsError as error:
            refused = error.detail
        else:
            messages.success(request, "The project was archived.")
            return see_other("orgs:projects")
    below = [
        each for each in access.projects(request.member) if each.parent_id and project.id in each.ancestors
    ]
    context = {"project": project, "below": [each for each in below if each != project], "refused": refused}
    return render(request, "orgs/project_archive.html", context)
