"""The pages of usage: the organization's, as far as the person reaches, its export, and that of one key."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from keys import access, clock, export, usage
from keys.errors import TakesTooLong
from keys.forms.usage import DEFAULT_RANGE, FILTERS, GROUPS, RANGES, View
from keys.models import ApiKey, Call
from keys.pages import figures, meters, rows
from keys.pages.figures import Name, Stats
from keys.pages.usagebar import NOT_GIVEN, Bar, Range, ranges
from keys.pages.words import KIND_NAMES
from keys.usage import MAX_POINTS, OTHER, GroupBy, Question, Report, Share
from keys.views import common
from keys.views.detail import header
from orgs import access as orgs_access
from orgs.answers import see_other
from orgs.members import Member
from orgs.models import Project
from orgs.requests import MemberRequest
from orgs.roles import Permission
from orgs.templatetags.ui import iso

SHOWN: Final = 50
EXPORTED: Final = 1_000
LATEST: Final = 25
LOOKED_AT: Final = 200
DISTINCT: Final = 6
LEFT_OUT: Final = (
    "The address held something that looks like a secret. It was left out. If it is a secret of yours, rotate it: "
    "addresses are kept in histories and logs."
)
HEADER: Final = ("from", "calls", "refused", "cost")


@require_safe
def usage_page(request: MemberRequest) -> HttpResponse:
    """Show the calls of the chosen range; to htmx only what the filters change."""
    now = clock.now()
    view = View.of(request.GET, now)
    if view.had_secret:
        messages.warning(request, LEFT_OUT)
        return see_other(view.url())
    is_part = request.htmx and request.htmx.target == "usage"
    context = {**_shown(request.member, view, now), "is_part": is_part, "place": "usage"}
    response = render(request, "keys/usage.html#usage" if is_part else "keys/usage.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
def usage_csv(request: MemberRequest) -> HttpResponse:
    """Export the numbers of a view: a row for each group and stretch of time in which it had calls."""
    now = clock.now()
    view = View.of(request.GET, now)
    if view.had_secret:
        messages.warning(request, LEFT_OUT)
        return see_other(view.url())
    try:
        report = _report(request.member, view, now)
    except TakesTooLong as error:
        messages.warning(request, f"There is no export: {error.detail}")
        return see_other(view.url())
    name_of = _names(request.member, view, report.series)
    text = io.StringIO(newline="")
    export.write(text, [HEADER[0], view.by, f"{view.by} name", *HEADER[1:]], _cells(report, name_of))
    response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-by-{view.by}-{now:%Y-%m-%d}.csv"'
    response["Cache-Control"] = "no-store"
    return response


@require_safe
def key_usage(request: MemberRequest, key_id: str) -> HttpResponse:
    """Show what one key did in the chosen range, and its latest calls."""
    key, now = access.key(request.member, key_id), clock.now()
    view = View.of(request.GET, now)
    if view.had_secret:
        messages.warning(request, LEFT_OUT)
        return see_other(view.in_range(DEFAULT_RANGE).url("keys:key_usage", key.id))
    view = view.but(**dict.fromkeys(FILTERS), by="key")
    context = {**header(request, key, now), "tab": "usage", **_of_key(key, view, now)}
    return common.answer(request, "keys/key_usage.html", context)


def _shown(member: Member, view: View, now: datetime) -> dict[str, Any]:
    bar = _bar(member, view)
    context = {
        "view": view,
        "now": now,
        "bar": bar,
        **_range(view, now),
        "sees_everything": member.may(Permission.KEYS_VIEW),
        "meters": [meters.of_organization(member.organization, now)] if _sees_organization(member) else [],
        "by": GROUPS[view.by],
        "groupings": bar.groupings,
    }
    try:
        return context | _counted(member, view, bar, now)
    except TakesTooLong:
        return context | {"is_too_much": True, "shorter": _shorter(view, now)}


def _counted(member: Member, view: View, bar: Bar, now: datetime) -> dict[str, Any]:
    by, question = GroupBy(view.by), _question(member, view, now, top=SHOWN)
    found = usage.overview(question, [] if by is GroupBy.OUTCOME else [by], now)
    context = {"stats": Stats(found.by_outcome.totals), "unknown": _unknown(member, view, now)}
    if not found.by_outcome.totals.calls:
        return context | _nothing(member, view, bar, now)
    shares = found.shares.get(by, found.by_outcome.series)
    return context | {
        "drawn": figures.drawn(found.by_outcome, view, "Calls", View.url),
        "groups": figures.groups(shares, _names(member, view, shares), _narrowing(view), by=by),
        "is_cut": any(one.group == OTHER for one in shares) and by is not GroupBy.OUTCOME,
    }


def _of_key(key: ApiKey, view: View, now: datetime) -> dict[str, Any]:
    calls = usage.latest(key, LOOKED_AT)
    context = {
        "view": view,
        "here": view.url("keys:key_usage", key.id),
        **_range(view, now, "keys:key_usage", key.id),
        "meters": meters.of_key(key, now),
        "marks": rows.marks(key, now, usage.health(key.organization_id, [key.id], now)[key.id]),
        "summary": usage.summary(key, now),
        "latest": [(call, figures.outcome(call.code), figures.part_of(call.code)) for call in calls[:LATEST]],
        "addresses": _seen(calls, "ip"),
        "agents": _seen(calls, "user_agent"),
    }
    try:
        return context | _counted_of_key(key, view, now)
    except TakesTooLong:
        return context | {"is_too_much": True, "shorter": _shorter(view, now, "keys:key_usage", key.id)}


def _counted_of_key(key: ApiKey, view: View, now: datetime) -> dict[str, Any]:
    window, here = view.window(now), view.but(key=key.id)
    question = Question(
        organization_id=key.organization_id,
        since=window.since,
        until=window.until,
        interval=window.grain,
        filters={GroupBy.KEY: [key.id]},
        top=SHOWN,
    )
    found = usage.overview(question, (GroupBy.ENDPOINT, GroupBy.REGION), now)
    outcomes = found.by_outcome
    if not outcomes.totals.calls:
        return {"stats": Stats(outcomes.totals)}
    tables = [
        (GROUPS[by], figures.groups(shares, _plainly(by), _narrowing(here, by), by=by))
        for by, shares in found.shares.items()
    ]
    by = GroupBy.OUTCOME
    tables.append((GROUPS[by], figures.groups(outcomes.series, _plainly(by), lambda _: "", by=by)))

    def address(other: View) -> str:
        return other.url("keys:key_usage", key.id)

    return {
        "stats": Stats(outcomes.totals),
        "drawn": figures.drawn(outcomes, view, f"Calls with {key.name}", address),
        "tables": tables,
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """An address or a user agent, and when a call last came with it."""

    value: str
    at: datetime


def _seen(calls: Sequence[Call], name: str) -> list[Seen]:
    """Return the last values of a field of a key's latest calls, each once, the newest first."""
    found: dict[str, datetime] = {}
    for call in calls:
        found.setdefault(getattr(call, name) or "", call.at)
    return [Seen(value, at) for value, at in list(found.items())[:DISTINCT]]


def _range(view: View, now: datetime, name: str = "keys:usage", *arguments: str) -> dict[str, Any]:
    """Return what the choice of a range shows; `kept` is what its form must carry along."""
    return {
        "ranges": ranges(view, name, *arguments),
        "window": view.window(now),
        "kept": view.in_range(DEFAULT_RANGE).query(),
    }


def _report(member: Member, view: View, now: datetime) -> Report:
    """Count the calls of a view by its grouping over time: as many groups as an export holds."""
    top = min(EXPORTED, _most(len(view.window(now).buckets)))
    return usage.report(_question(member, view, now, top=top), now)


def _question(member: Member, view: View, now: datetime, *, top: int) -> Question:
    """Ask for the calls of a view as far as the person reaches: their projects, below the chosen one."""
    window = view.window(now)
    return Question(
        organization_id=member.organization_id,
        since=window.since,
        until=window.until,
        interval=window.grain,
        group_by=GroupBy(view.by),
        filters={GroupBy(name): [value] for name, value in view.active()},
        project_ids=access.visible_projects(member),
        top=top,
    )


def _shorter(view: View, now: datetime, name: str = "keys:usage", *arguments: str) -> list[Range]:
    """Return the ranges that are shorter than a view's, the longest first."""
    window = view.window(now)
    span = window.until - window.since
    return [
        option
        for option, length in zip(ranges(view, name, *arguments), RANGES.values(), strict=True)
        if length < span
    ][::-1]


def _most(buckets: int) -> int:
    """Return how many groups a report may have besides the rest."""
    return max(MAX_POINTS // max(buckets, 1) - 1, 1)


def _bar(member: Member, view: View) -> Bar:
    root = member.project.path if member.project else ""
    named = access.keys(member).filter(pk=view.key).values_list("name", flat=True).first() if view.key else ""
    return Bar(
        view=view,
        environments_known=orgs_access.environments(member),
        projects_known=[project for project in orgs_access.projects(member) if project.path.startswith(root)],
        key_name=named or "",
    )


def _names(member: Member, view: View, shares: Sequence[Share]) -> Callable[[str], Name]:
    """Return how groups are called; a key or project gets its name in one query for all."""
    by = GroupBy(view.by)
    if by is GroupBy.KEY:
        known = _key_names(member, view, [one.group or "" for one in shares])
    elif by is GroupBy.PROJECT:
        known = {
            project.id: Name(label=project.name, sub=project.label_path if project.parent_id else "")
            for project in Project.objects.of(member.organization_id)
        }
    elif by is GroupBy.ENVIRONMENT:
        known = {place.slug: Name(label=place.name) for place in orgs_access.environments(member)}
    else:
        return _plainly(by)
    return lambda group: known.get(group, Name(label=group))


def _key_names(member: Member, view: View, ids: Sequence[str]) -> dict[str, Name]:
    rest = View(range=view.range, since=view.since, until=view.until)
    return {
        key.id: Name(
            label=key.name,
            sub=f"{KIND_NAMES[key.kind]} · {key.environment.name}",
            page=rest.url("keys:key_usage", key.id),
        )
        for key in access.keys(member).filter(pk__in=ids)
    }


def _plainly(by: GroupBy) -> Callable[[str], Name]:
    if by is GroupBy.OUTCOME:
        return lambda group: Name(label=figures.outcome(group), sub=group)
    return lambda group: Name(label=group or NOT_GIVEN.capitalize(), is_code=bool(group))


def _narrowing(view: View, by: GroupBy | None = None) -> Callable[[str], str]:
    return lambda group: view.but(**{(by or view.by): group}).url()


def _sees_organization(member: Member) -> bool:
    """Tell whether the person sees what belongs to no project: the quota, and calls without a known key."""
    return member.may(Permission.KEYS_VIEW)


def _unknown(member: Member, view: View, now: datetime) -> usage.Unknown | None:
    """Return the calls without a known key; None where filters speak of keys, which such calls have none of."""
    if not _sees_organization(member) or member.project is not None or any(view.active()):
        return None
    window = view.window(now)
    return usage.unknown(member.organization_id, window.since, window.until)


def _nothing(member: Member, view: View, bar: Bar, now: datetime) -> dict[str, Any]:
    """Say why there is nothing: filters, no call yet, or none in the range."""
    if bar.active:
        return {"hiding": bar.active}
    longest = View(range=list(RANGES)[-1])
    question = _question(member, longest, now, top=SHOWN)
    was_used = usage.overview(question, [], now).by_outcome.totals.calls > 0
    lengths = list(RANGES)
    longer = ranges(view) if view.since else ranges(view)[lengths.index(view.range) + 1 :]
    return {"is_unused": not was_used, "longer": longer if was_used else []}


def _cells(report: Report, name_of: Callable[[str], Name]) -> list[list[str]]:
    """Return the points of a report that have calls, in order of time, then of the groups."""
    lines = [
        (point.at, index, one.group or "", point)
        for index, one in enumerate(report.series)
        for point in one.points
        if point.calls
    ]
    return [
        [
            iso(at),
            group,
            "" if group == OTHER else name_of(group).label,
            str(point.calls),
            str(point.refused),
            str(point.cost),
        ]
        for at, _, group, point in sorted(lines, key=lambda line: line[:2])
    ]
