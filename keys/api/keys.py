"""`/v1/api-keys`: create, list, see, change, revoke."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from django.http import Http404, HttpResponse
from ninja import Body, Query, Router
from pydantic import BaseModel, Field

from keys import access, clock, listing, services
from keys.api import docs, present, running
from keys.api.answers import CreatedOut, KeyOut, KeysOut
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import Cursor, Limit, check_names
from keys.api.problems import invalid
from keys.api.requests import (
    KeyChanges,
    KeyDraft,
    LimitChoice,
    OwnerChoice,
    OwnerTeam,
    Revocation,
    TierOfKey,
)
from keys.api.times import Time
from keys.callers import Caller
from keys.models import ApiKey
from keys.policy import ABSENT, Requested, TierName, after_days
from keys.secret import Kind
from orgs.models import Environment, Project, User
from orgs.terms import RateLimit

router = Router(tags=["Keys"])
MAX_FILTER: Final = 110
MAX_TAGS: Final = 20
Sort = Literal[
    "created_at", "-created_at", "last_used_at", "-last_used_at", "expires_at", "-expires_at", "name", "-name"
]
Filter = Annotated[str, Field(max_length=MAX_FILTER)]


class ListQuery(BaseModel):
    """The filters of the list."""

    limit: Limit = listing.DEFAULT_LIMIT
    cursor: Cursor | None = None
    sort: Sort = Field(
        default="-created_at", description="`-` for falling; empty times come last either way."
    )
    status: Literal["active", "disabled", "expired", "revoked"] | None = None
    kind: Literal["ingestion", "control_plane", "service"] | None = None
    environment: Filter | None = Field(default=None, description="A slug.")
    project: Filter | None = Field(default=None, description="A project's id; its descendants count.")
    owner: Filter | None = Field(default=None, description="A member's id, or a team's name.")
    scope: Filter | None = None
    tag: list[Filter] = Field(
        default_factory=list, max_length=MAX_TAGS, description="`name:value`; may be repeated."
    )
    q: Filter | None = Field(default=None, description="A full id, a hint, or the start of a name.")
    expires_before: Time | None = None
    unused_since: Time | None = Field(
        default=None, description="Made before this, and not used at or after it."
    )
    organization: Filter | None = Field(
        default=None, description="For keys of the operator's organization alone."
    )


_NAMES: Final = tuple(ListQuery.model_fields)


@router.post(
    "/api-keys",
    auth=Bearer("keys:write"),
    response={201: CreatedOut},
    operation_id="create_key",
    summary="Create a key",
    openapi_extra=docs.change("keys:write", 403, 404, 409, once=True),
)
def key_create(request: ApiRequest, body: KeyDraft) -> HttpResponse:
    """The answer shows the secret, this once."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, CreatedOut]:
        draft = _draft(body, running.target(request, body.organization), request, clock.now())
        made = services.create_key(draft, actor=caller)
        key = present.key(made.key, clock.now())
        return HTTPStatus.CREATED, CreatedOut(key=key, secret=made.secret)

    return running.change_once(request, act, body.organization)


@router.get(
    "/api-keys",
    auth=Bearer("keys:read"),
    response=KeysOut,
    operation_id="list_keys",
    summary="List keys",
    openapi_extra=docs.read("keys:read", 403, 404),
)
def key_list(request: ApiRequest, query: Query[ListQuery]) -> HttpResponse:
    """The keys of your key's project and below."""
    check_names(request, _NAMES, repeatable=("tag",))
    organization_id = running.target(request, query.organization)

    def act(_caller: Caller) -> KeysOut:
        now, filters = clock.now(), _filters(query, organization_id)
        visible = access.keys_of_presented(request.auth, organization_id)
        found = listing.apply(visible, filters, now)
        page = listing.page(found, filters=filters, sort=query.sort, cursor=query.cursor, limit=query.limit)
        return KeysOut(data=present.keys(page.items, now), next_cursor=page.next)

    return running.read(request, act, query.organization)


@router.get(
    "/api-keys/{key_id}",
    auth=Bearer("keys:read"),
    response=KeyOut,
    operation_id="get_key",
    summary="See a key",
    openapi_extra=docs.read("keys:read", 403, 404),
)
def key_get(request: ApiRequest, key_id: str) -> HttpResponse:
    """One key, with its secrets' versions; never a secret."""
    check_names(request)
    return running.read(request, lambda _: present.key(find(request, key_id), clock.now()))


@router.patch(
    "/api-keys/{key_id}",
    auth=Bearer("keys:write"),
    response=KeyOut,
    operation_id="change_key",
    summary="Change a key",
    openapi_extra=docs.change("keys:write", 403, 404, 409),
)
def key_change(request: ApiRequest, key_id: str, body: KeyChanges) -> HttpResponse:
    """What is left out stays as it is. A key can't change itself."""
    check_names(request)

    def act(caller: Caller) -> tuple[HTTPStatus, KeyOut]:
        key = find(request, key_id)
        services.change_key(key, _changes(body), actor=caller)
        return HTTPStatus.OK, present.key(find(request, key_id), clock.now())

    return running.change(request, act)


@router.delete(
    "/api-keys/{key_id}",
    auth=Bearer("keys:revoke"),
    response={204: None},
    operation_id="delete_key",
    summary="Revoke a key",
    openapi_extra=docs.change("keys:revoke", 403, 404),
)
def key_delete(
    request: ApiRequest, key_id: str, body: Annotated[Revocation | None, Body()] = None
) -> HttpResponse:
    """Some clients drop the body of a DELETE; the POST does the same."""
    check_names(request)
    return running.change(request, lambda caller: _revoke(request, key_id, body, caller))


@router.post(
    "/api-keys/{key_id}/revoke",
    auth=Bearer("keys:revoke"),
    response={204: None},
    operation_id="revoke_key",
    summary="Revoke a key, with a reason",
    openapi_extra=docs.change("keys:revoke", 403, 404, 409, once=True),
)
def key_revoke(
    request: ApiRequest, key_id: str, body: Annotated[Revocation | None, Body()] = None
) -> HttpResponse:
    """No verification that begins after the answer succeeds. Revoking again answers the same."""
    check_names(request)
    return running.change_once(request, lambda caller: _revoke(request, key_id, body, caller))


def find(request: ApiRequest, key_id: str) -> ApiKey:
    """Return a key of the caller's organization that it sees; `Http404` for a stranger's and an unknown one alike."""
    presented = request.auth
    found = None
    if listing.ID.fullmatch(key_id):
        visible = access.keys_of_presented(presented, presented.key.organization_id)
        found = visible.filter(pk=key_id).first()
    if found is None:
        raise Http404
    return found


def _revoke(
    request: ApiRequest, key_id: str, body: Revocation | None, caller: Caller
) -> tuple[HTTPStatus, None]:
    asked = body or Revocation()
    services.revoke_key(find(request, key_id), actor=caller, reason=asked.reason, note=asked.note)
    return HTTPStatus.NO_CONTENT, None


def _filters(query: ListQuery, organization_id: str) -> listing.Filters:
    return listing.Filters(
        organization_id=organization_id,
        status=query.status or "",
        kind=query.kind or "",
        environment=query.environment or "",
        project=query.project or "",
        owner=query.owner or "",
        scope=query.scope or "",
        tags=tuple(map(_tag, query.tag)),
        search=query.q or "",
        expires_before=query.expires_before,
        unused_since=query.unused_since,
    )


def _tag(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise invalid("tag", "A tag is written name:value.")
    return name, value


def _draft(body: KeyDraft, organization_id: str, request: ApiRequest, now: datetime) -> services.Draft:
    return services.Draft(
        kind=Kind(body.kind),
        name=body.name,
        project=_project(body.project, organization_id, request),
        environment=_environment(body.environment, organization_id),
        scopes=body.scopes,
        owner=_owner(body.owner),
        description=body.description,
        tags=body.tags,
        allowed_ips=body.allowed_ips,
        expires=_expiry(body, now),
        rate_limit=_limit(body.rate_limit) if body.has("rate_limit") else ABSENT,
        rotation_interval_days=body.rotation_interval_days,
        auto_rotate=body.auto_rotate,
        may_rotate_itself=body.may_rotate_itself,
        approval_bound=body.approval_bound,
    )


def _project(project_id: str | None, organization_id: str, request: ApiRequest) -> Project:
    """Return the project to create in: one that is not the organization's is unknown, whoever else has it."""
    projects = Project.objects.of(organization_id)
    presented = request.auth
    if project_id is not None:
        found = projects.filter(pk=project_id).first()
    elif presented.is_operator:
        found = projects.filter(parent=None).first()
    else:
        found = projects.filter(pk=presented.project.id).first()
    if found is None:
        raise invalid("project", "There is no such project.")
    return found


def _environment(slug: str, organization_id: str) -> Environment:
    found = Environment.objects.filter(organization_id=organization_id, slug=slug).first()
    if found is None:
        raise invalid("environment", "There is no such environment.")
    return found


def _owner(owner: OwnerChoice | None) -> services.Owner:
    """Return the owner; whether a member is one of this organization is the service's question."""
    if owner is None:
        return services.Owner()
    if isinstance(owner, OwnerTeam):
        return services.Owner(team=owner.name)
    found = User.objects.filter(pk=owner.id).first()
    if found is None:
        raise invalid("owner", "The owner is not a member of this organization.")
    return services.Owner(member=found)


def _expiry(body: KeyDraft, now: datetime) -> Requested:
    if body.expires_in_days is not None:
        if body.has("expires_at"):
            raise invalid("expires_in_days", "Either this or expires_at.")
        return after_days(body.expires_in_days, now)
    return body.expires_at if body.has("expires_at") else ABSENT


def _limit(choice: LimitChoice | None) -> RateLimit | TierName | None:
    if choice is None:
        return None
    if isinstance(choice, TierOfKey):
        return TierName(choice.tier)
    return RateLimit(choice.requests, choice.window_seconds)


_COLUMNS: Final = (
    "name",
    "description",
    "tags",
    "scopes",
    "allowed_ips",
    "rotation_interval_days",
    "auto_rotate",
    "may_rotate_itself",
    "enabled",
    "disabled_until",
)


def _changes(body: KeyChanges) -> services.Changes:
    given: dict[str, Any] = {name: getattr(body, name) for name in _COLUMNS if body.has(name)}
    if body.has("owner"):
        given["owner"] = _owner(body.owner)
    if body.has("expires_at"):
        given["expires"] = body.expires_at
    if body.has("rate_limit"):
        given["rate_limit"] = _limit(body.rate_limit)
    return services.Changes(**given)
