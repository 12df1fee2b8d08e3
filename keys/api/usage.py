"""`GET /v1/usage` and `GET /v1/api-keys/{id}/usage`: what was called, as the Usage page counts it."""

from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal

from django.http import Http404, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, ConfigDict, Field

from audit import tenancy
from keys import access, clock, listing, usage
from keys.api import docs, running
from keys.api.answers import Answer
from keys.api.auth import ApiRequest, Bearer
from keys.api.paging import check_names
from keys.api.problems import invalid
from keys.api.requests import NO_NUL
from keys.api.times import Moment, Time
from keys.callers import Presented
from keys.models import ApiKey, Grain
from keys.usage import GroupBy, Question, Report
from orgs.models import Project

router = Router(tags=["Usage"])
DEFAULT_RANGE: Final = timedelta(hours=24)
MAX_VALUES: Final = 50
_GRAINS: Final = {"minute": Grain.MINUTE, "hour": Grain.HOUR, "day": Grain.DAY}
# What may come more than once; any of the values counts then.
_FILTERS: Final = ("key", "endpoint", "region", "outcome", "environment", "project")
Group = Literal["key", "organization", "endpoint", "region", "outcome", "environment", "project"]
Text = Annotated[str, Field(max_length=256, pattern=NO_NUL)]
Values = Annotated[list[Text], Field(max_length=MAX_VALUES)]
_OPERATORS: Final = "For keys of the operator's organization alone"


def _filter(description: str) -> list[str]:
    field: list[str] = Field(default_factory=list, description=f"{description}; may be repeated.")
    return field


class UsageQuery(BaseModel):
    """What to count."""

    model_config = ConfigDict(populate_by_name=True)

    since: Time | None = Field(default=None, alias="from", description="Default: 24 hours before `to`.")
    until: Time | None = Field(default=None, alias="to", description="Not included; default: now.")
    interval: Literal["minute", "hour", "day"] | None = Field(
        default=None,
        description="How wide a point is; by the range, where absent. Minutes are kept for 7 days, hours for 400.",
    )
    group_by: Group | None = Field(
        default=None,
        description="One series for each; absent: one for all. " + _OPERATORS + ": organization.",
    )
    key: Values = _filter("A key's id")
    endpoint: Values = _filter("As verifiers give it, `other` beyond 1,000 a day, empty where none was given")
    region: Values = _filter("As verifiers give it")
    outcome: Values = _filter("A code, such as `RATE_LIMITED`")
    environment: Values = _filter("A slug")
    project: Values = _filter("A project's id, which counts with those below it")
    organization: Annotated[str, Field(max_length=32, pattern=NO_NUL)] | None = Field(
        default=None,
        description=_OPERATORS + ", of whom `group_by=organization` without this is every organization.",
    )


_NAMES: Final = ("from", "to", "interval", "group_by", "organization", *_FILTERS)


class KeyUsageQuery(BaseModel):
    """Whose key it is."""

    organization: Annotated[str, Field(max_length=32, pattern=NO_NUL)] | None = Field(
        default=None, description=_OPERATORS + "."
    )


class PointOut(Answer):
    """One bucket of time. `refused` are those of `calls` that were not VALID; `cost` is what the others spent."""

    at: Moment
    calls: int
    refused: int
    cost: int


class SeriesOut(Answer):
    """One group, with a point for each bucket, zeros included; `group` is null where none was asked for."""

    group: str | None
    points: list[PointOut]


class UnknownCallsOut(Answer):
    """Calls of the organization's verifiers with what is no key: no series has them."""

    malformed: int
    not_found: int


class TotalsOut(Answer):
    """The sum of all series; `unknown` is null where the question is narrowed to what unknown calls don't have."""

    calls: int
    refused: int
    cost: int
    unknown: UnknownCallsOut | None


class UsageOut(Answer):
    """The calls of whole buckets, from `from` up to but without `to`; the series with the most calls first."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    interval: Literal["minute", "hour", "day"]
    series: list[SeriesOut]
    totals: TotalsOut


class PeriodOut(Answer):
    """A calendar month in UTC: the period of quotas."""

    start: Moment
    end: Moment


class LastUsedOut(Answer):
    """The last valid use; `region` and `user_agent` are empty where they were not given, or no longer kept."""

    at: Moment
    ip: str | None
    region: str
    user_agent: str


class KeyUsageOut(Answer):
    """One key's running month. Of endpoints and regions the 50 with the most calls, then `other`."""

    requests_current_period: int
    period: PeriodOut
    by_outcome: dict[str, int]
    error_rate: float = Field(description="Refused ÷ all, 0 to 1.")
    last_used: LastUsedOut | None
    by_endpoint: dict[str, int]
    by_region: dict[str, int]


@router.get(
    "/usage",
    auth=Bearer("usage:read", allowed=frozenset({"key"})),
    response=UsageOut,
    by_alias=True,
    operation_id="get_usage",
    summary="Count calls",
    openapi_extra=docs.read("usage:read", 403, 404),
)
def usage_get(request: ApiRequest, query: Query[UsageQuery]) -> HttpResponse:
    """The calls of the keys of your key's project and below, exact at every moment; buckets that are cut are whole."""
    check_names(request, _NAMES, repeatable=_FILTERS)
    presented = request.auth
    if query.group_by == "organization":
        if not presented.is_operator:
            raise invalid("group_by", "Only keys of the operator's organization see more than one.")
        if query.organization is None:
            with tenancy.everywhere(tenancy.Reason.OPERATOR_KEY):
                return running.answer(HTTPStatus.OK, _counted(query, None, None))
    organization_id = running.target(request, query.organization)
    return running.read(
        request,
        lambda _: _counted(query, organization_id, _reached(presented)),
        query.organization,
    )


@router.get(
    "/api-keys/{key_id}/usage",
    auth=Bearer("usage:read"),
    response=KeyUsageOut,
    operation_id="get_key_usage",
    summary="A key's usage this month",
    openapi_extra=docs.read("usage:read", 403, 404),
)
def key_usage_get(request: ApiRequest, key_id: str, query: Query[KeyUsageQuery]) -> HttpResponse:
    """What one key did in the running calendar month, and when it was last used."""
    check_names(request, tuple(KeyUsageQuery.model_fields))
    organization_id = running.target(request, query.organization)

    def act(_caller: object) -> KeyUsageOut:
        return _summary(usage.summary(_find(request.auth, organization_id, key_id), clock.now()))

    return running.read(request, act, query.organization)


def _find(presented: Presented, organization_id: str, key_id: str) -> ApiKey:
    visible = access.keys_of_presented(presented, organization_id)
    found = visible.filter(pk=key_id).first() if listing.ID.fullmatch(key_id) else None
    if found is None:
        raise Http404
    return found


def _reached(presented: Presented) -> list[str] | None:
    """Return the ids of the projects that a key sees the usage of, None where that is all of them."""
    if presented.is_operator or presented.project.depth == 0:
        return None
    below = Project.objects.of(presented.key.organization_id).below([presented.project])
    return list(below.values_list("id", flat=True))


def _counted(query: UsageQuery, organization_id: str | None, reached: Sequence[str] | None) -> UsageOut:
    now = clock.now()
    filters = {GroupBy(name): values for name in _FILTERS if (values := getattr(query, name))}
    question = Question(
        organization_id=organization_id,
        since=query.since or (query.until or now) - DEFAULT_RANGE,
        until=query.until or now,
        interval=_GRAINS[query.interval] if query.interval else None,
        group_by=GroupBy(query.group_by) if query.group_by else None,
        filters=filters,
        project_ids=reached,
    )
    report = usage.report(question, now)
    is_whole = not filters and reached is None
    return _report(report, _unknown(organization_id, report) if is_whole else None)


def _unknown(organization_id: str | None, report: Report) -> UnknownCallsOut:
    found = usage.unknown(organization_id, report.window.since, report.window.until)
    return UnknownCallsOut(malformed=found.malformed, not_found=found.not_found)


def _report(report: Report, unknown: UnknownCallsOut | None) -> UsageOut:
    totals = report.totals
    return UsageOut(
        since=report.window.since,
        until=report.window.until,
        interval=_name(report.window.grain),
        series=[
            SeriesOut(
                group=one.group,
                points=[PointOut(at=p.at, calls=p.calls, refused=p.refused, cost=p.cost) for p in one.points],
            )
            for one in report.series
        ],
        totals=TotalsOut(calls=totals.calls, refused=totals.refused, cost=totals.cost, unknown=unknown),
    )


def _name(grain: Grain) -> Literal["minute", "hour", "day"]:
    return "minute" if grain is Grain.MINUTE else "hour" if grain is Grain.HOUR else "day"


def _summary(found: usage.Summary) -> KeyUsageOut:
    last = found.last_used
    return KeyUsageOut(
        requests_current_period=found.requests_current_period,
        period=PeriodOut(start=found.period_start, end=found.period_end),
        by_outcome=dict(found.by_outcome),
        error_rate=found.error_rate,
        last_used=None
        if last is None
        else LastUsedOut(at=last.at, ip=last.ip, region=last.region, user_agent=last.user_agent),
        by_endpoint=dict(found.by_endpoint),
        by_region=dict(found.by_region),
    )
