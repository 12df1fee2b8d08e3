"""What creating a key needs to know, and who the caller is: for any valid key."""

from django.http import HttpResponse
from ninja import Query, Router

from keys.api import docs, present, running
from keys.api.answers import (
    EnvironmentOut,
    EnvironmentsOut,
    MeOut,
    OrganizationOut,
    ProjectOut,
    ProjectsOut,
    ScopeOut,
    ScopesOut,
)
from keys.api.auth import ApiRequest, Bearer
from keys.api.keys import find
from keys.api.paging import PageQuery, by_column, check_names
from keys.callers import Caller, Presented
from keys.models import KeySecret, Scope
from keys.rotation import known_end
from keys.secret import Kind
from orgs.models import Environment, Organization, Project
from orgs.roles import Risk

router = Router(tags=["About"])
_NAMES = tuple(PageQuery.model_fields)


@router.get(
    "/projects",
    auth=Bearer(),
    response=ProjectsOut,
    operation_id="list_projects",
    summary="List projects",
    openapi_extra=docs.read(""),
)
def project_list(request: ApiRequest, query: Query[PageQuery]) -> HttpResponse:
    """The projects that your key reaches, its own and those below; archived ones are left out."""
    check_names(request, _NAMES)
    presented = request.auth

    def act(_caller: Caller) -> ProjectsOut:
        reached = Project.objects.of(presented.key.organization_id).filter(archived_at__isnull=True)
        if not presented.is_operator:
            reached = reached.filter(path__startswith=presented.project.path)
        rows, cursor = by_column(reached, "path", query)
        return ProjectsOut(data=[_project(row, presented) for row in rows], next_cursor=cursor)

    return running.read(request, act)


@router.get(
    "/environments",
    auth=Bearer(),
    response=EnvironmentsOut,
    operation_id="list_environments",
    summary="List environments",
    openapi_extra=docs.read(""),
)
def environment_list(request: ApiRequest, query: Query[PageQuery]) -> HttpResponse:
    """The environments of your organization that are in use."""
    check_names(request, _NAMES)

    def act(_caller: Caller) -> EnvironmentsOut:
        own = Environment.objects.filter(
            organization_id=request.auth.key.organization_id, archived_at__isnull=True
        )
        rows, cursor = by_column(own, "slug", query)
        return EnvironmentsOut(
            data=[
                EnvironmentOut(
                    id=row.id,
                    slug=row.slug,
                    name=row.name,
                    mode="live" if row.mode == Environment.Mode.LIVE else "test",
                    is_production=row.is_production,
                )
                for row in rows
            ],
            next_cursor=cursor,
        )

    return running.read(request, act)


@router.get(
    "/scopes",
    auth=Bearer(),
    response=ScopesOut,
    operation_id="list_scopes",
    summary="List the scope catalogue",
    openapi_extra=docs.read(""),
)
def scope_list(request: ApiRequest, query: Query[PageQuery]) -> HttpResponse:
    """Every scope that keys may carry, and which kinds of key may carry it."""
    check_names(request, _NAMES)

    def act(_caller: Caller) -> ScopesOut:
        rows, cursor = by_column(Scope.objects.all(), "name", query)
        return ScopesOut(data=list(map(_scope, rows)), next_cursor=cursor)

    return running.read(request, act)


@router.get(
    "/me",
    auth=Bearer(),
    response=MeOut,
    operation_id="who_am_i",
    summary="Who am I",
    openapi_extra=docs.read(""),
)
def me(request: ApiRequest) -> HttpResponse:
    """The key that you sent, and the scopes that count of it at this moment."""
    check_names(request)
    presented = request.auth
    key = presented.key

    def act(_caller: Caller) -> MeOut:
        organization = Organization.objects.get(pk=key.organization_id)
        stored = find(request, key.id)
        secret = KeySecret.objects.defer("digest").get(key=key, version=presented.version)
        return MeOut(
            id=key.id,
            name=key.name,
            kind=Kind(key.kind),
            organization=OrganizationOut(id=organization.id, slug=organization.slug, name=organization.name),
            is_operator=presented.is_operator,
            project=presented.project.id,
            environment=stored.environment.slug,
            scopes=list(presented.scopes),
            secret_version=presented.version,
            retiring=presented.version != key.newest_version,
            secret_created_at=secret.created_at,
            expires_at=secret.expires_at,
            accepted_until=known_end(secret.accepted_until),
            rotation_interval_days=stored.rotation_interval_days,
            allowed_ips=key.allowed_ips,
            rate_limit=present.limits([stored])[key.id],
        )

    return running.read(request, act)


def _project(row: Project, presented: Presented) -> ProjectOut:
    """Return a project; what lies above the caller's own is not the caller's to see."""
    is_top = not presented.is_operator and row.id == presented.project.id
    return ProjectOut(id=row.id, name=row.name, parent=None if is_top else row.parent_id, scopes=row.scopes)


def _scope(row: Scope) -> ScopeOut:
    return ScopeOut(
        name=row.name,
        description=row.description,
        risk=Risk(row.risk),
        kinds=[Kind(kind) for kind in row.kinds],
        is_deprecated=row.is_deprecated,
    )
