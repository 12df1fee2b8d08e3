"""`POST /v1/api-keys/break-glass`: every key that a filter takes, revoked in one act; or what would go."""

from http import HTTPStatus
from typing import Annotated, Final, Literal

from django.db.models import F
from django.http import HttpResponse
from ninja import Router
from pydantic import ConfigDict, Discriminator, Field, Tag

from keys import breakglass, clock, listing, services
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.problems import invalid
from keys.api.requests import NO_NUL, Strict, Text
from keys.api.times import Moment, Time
from keys.callers import Caller
from keys.models import IncidentKey
from keys.scopes import BREAK_GLASS

router = Router(tags=["Keys"])
MOST_KEYS: Final = 1_000
MAX_FILTER: Final = 110
MAX_TAGS: Final = 20
Filter = Annotated[str, Field(max_length=MAX_FILTER, pattern=NO_NUL)]


def _shape(value: object) -> str:
    return "list[str]" if isinstance(value, list) else "str"


Tags = Annotated[
    Annotated[Filter, Tag("str")] | Annotated[list[Filter], Field(max_length=MAX_TAGS), Tag("list[str]")],
    Discriminator(_shape),
]


def _told(caller: Caller, organization_id: str) -> None:
    services.refuse_break_glass(organization_id, actor=caller, cause="scope")


class BreakGlassFilter(Strict):
    """Which keys: all that is given must hold. At least one member; revoked keys are left out."""

    status: Literal["active", "disabled", "expired"] | None = None
    kind: Literal["ingestion", "control_plane", "service"] | None = None
    environment: Filter | None = Field(default=None, description="A slug.")
    project: Filter | None = Field(default=None, description="A project's id; its descendants count.")
    owner: Filter | None = Field(default=None, description="A member's id, or a team's name.")
    scope: Filter | None = Field(default=None, description="As a key carries it, a wildcard only as such.")
    tag: Tags | None = Field(
        default=None, description="`name:value`, or several, of which all must be there."
    )
    q: Filter | None = Field(default=None, description="A full id, a hint, or the start of a name.")
    expires_before: Time | None = None
    unused_since: Time | None = Field(
        default=None, description="Made before this, and not used at or after it."
    )
    created_before: Time | None = None
    organization: Filter | None = Field(
        default=None,
        description="For keys of the operator's organization alone; by itself it means every key there is.",
    )


class BreakGlassRequest(Strict):
    """What to revoke, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "filter": {"environment": "production", "tag": "team:noc"},
                    "reason": "Laptop of the night shift stolen, INC-7",
                    "dry_run": True,
                }
            ]
        }
    )

    filter: BreakGlassFilter
    reason: Text = Field(
        default="", description="Needed to act: at most 1,000 bytes, kept with the incident."
    )
    dry_run: bool = Field(default=False, description="Tell what would go, and change nothing.")


class TakenOut(Answer):
    """A key that would go, or went; `calls_24h` is null where there was too much to count."""

    id: str
    name: str
    calls_24h: int | None
    last_used_at: Moment | None


class BreakGlassOut(Answer):
    """What would go, or went. Of `keys` the 1,000 with the most calls; `incident` is null where nothing was revoked."""

    dry_run: bool
    count: int
    incident: str | None
    includes_caller: bool = Field(description="Whether the calling key is one of them.")
    keys: list[TakenOut]


@router.post(
    "/api-keys/break-glass",
    auth=Bearer(BREAK_GLASS, on_refused=_told),
    response=BreakGlassOut,
    operation_id="break_glass",
    summary="Revoke every key that matches",
    openapi_extra=docs.change(BREAK_GLASS, 403, 404, once=True),
)
def break_glass(request: ApiRequest, body: BreakGlassRequest) -> HttpResponse:
    """All or none, in one act; no verification that begins after the answer succeeds with any of them.

    Within your key's project and below. Your own key goes too, where it matches: ask with `dry_run` first.
    """
    check_names(request)
    organization_id = running.target(request, body.filter.organization)
    filters, is_whole = _filters(body.filter, organization_id), body.filter.organization is not None
    if body.dry_run:
        return running.read(
            request, lambda caller: _dry_run(filters, caller, is_whole=is_whole), body.filter.organization
        )

    def act(caller: Caller) -> tuple[HTTPStatus, BreakGlassOut]:
        broken = services.break_glass(filters, actor=caller, reason=body.reason, is_whole=is_whole)
        return HTTPStatus.OK, _done(broken)

    return running.change_once(request, act, body.filter.organization)


def _dry_run(filters: listing.Filters, caller: Caller, *, is_whole: bool) -> BreakGlassOut:
    now = clock.now()
    breakglass.check(filters, is_whole=is_whole)
    found = breakglass.matching(filters, caller, now)
    keys = breakglass.carried(found, filters.organization_id, now, most=MOST_KEYS)
    return BreakGlassOut(
        dry_run=True,
        count=len(keys) if len(keys) < MOST_KEYS else found.count(),
        incident=None,
        includes_caller=found.filter(pk=caller.id).exists(),
        keys=[_taken(key) for key in keys],
    )


def _taken(key: breakglass.Carried) -> TakenOut:
    return TakenOut(id=key.id, name=key.name, calls_24h=key.calls_24h, last_used_at=key.last_used_at)


def _done(broken: services.Broken) -> BreakGlassOut:
    taken = IncidentKey.objects.filter(incident=broken.incident.id if broken.incident else "")
    keys = taken.select_related("key").order_by(F("calls_24h").desc(nulls_last=True), "key_id")[:MOST_KEYS]
    return BreakGlassOut(
        dry_run=False,
        count=broken.count,
        incident=broken.incident.id if broken.incident else None,
        includes_caller=broken.took_caller,
        keys=[
            TakenOut(id=one.key_id, name=one.key.name, calls_24h=one.calls_24h, last_used_at=one.last_used_at)
            for one in keys
        ],
    )


def _filters(body: BreakGlassFilter, organization_id: str) -> listing.Filters:
    return listing.Filters(
        organization_id=organization_id,
        status=body.status or "",
        kind=body.kind or "",
        environment=body.environment or "",
        project=body.project or "",
        owner=body.owner or "",
        scope=body.scope or "",
        tags=tuple(map(_tag, [body.tag] if isinstance(body.tag, str) else body.tag or ())),
        search=(body.q or "").strip(),
        expires_before=body.expires_before,
        unused_since=body.unused_since,
        created_before=body.created_before,
    )


def _tag(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise invalid("filter.tag", "A tag is written name:value.")
    return name, value
