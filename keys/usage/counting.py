"""Calls counted by bucket of time: the report behind the Usage page and the API, and a list's sparklines."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from keys.errors import Invalid
from keys.models import Grain
from keys.usage.answers import Point, Report, Series, Totals
from keys.usage.questions import MAX_POINTS, OTHER, GroupBy, Question, Window, floor, window
from keys.usage.rows import UNITS, counted, rows

SPARKLINE_DAYS: Final = 14
_GROUPS: Final = {
    None: "NULL::text",
    GroupBy.KEY: "r.key_id",
    GroupBy.ORGANIZATION: "r.organization_id",
    GroupBy.ENDPOINT: "r.endpoint",
    GroupBy.REGION: "r.region",
    GroupBy.OUTCOME: "r.code",
    GroupBy.ENVIRONMENT: "e.slug",
    GroupBy.PROJECT: "k.project_id",
}
_COLUMNS: Final = {
    GroupBy.KEY: "key_id",
    GroupBy.ORGANIZATION: "organization_id",
    GroupBy.ENDPOINT: "endpoint",
    GroupBy.REGION: "region",
    GroupBy.OUTCOME: "code",
}
_PLACES: Final = """
  JOIN keys_apikey k ON k.id = r.key_id AND k.organization_id = r.organization_id
  JOIN orgs_environment e ON e.id = k.environment_id
  JOIN orgs_project p ON p.id = k.project_id
 WHERE (%(environments)s::text[] IS NULL OR e.slug = ANY(%(environments)s::text[]))
   AND (%(projects)s::text[] IS NULL OR string_to_array(trim(both '/' from p.path), '/') && %(projects)s::text[])
   AND (%(reached)s::text[] IS NULL OR p.id = ANY(%(reached)s::text[]))
"""
_REPORT: Final = """
WITH counted AS (
    SELECT r.at, {group} AS name, sum(r.calls) AS calls, sum(r.calls) FILTER (WHERE r.code <> 'VALID') AS refused,
           sum(r.cost) FILTER (WHERE r.code = 'VALID') AS cost
      FROM ({rows}) r {places} GROUP BY 1, 2
), best AS (
    SELECT name FROM counted GROUP BY name ORDER BY sum(calls) DESC, name LIMIT %(top)s
)
SELECT c.at, CASE WHEN c.name IS NULL OR b.name IS NOT NULL THEN c.name ELSE %(other)s END AS series,
       sum(c.calls)::bigint, coalesce(sum(c.refused), 0)::bigint, coalesce(sum(c.cost), 0)::bigint
  FROM counted c LEFT JOIN best b ON b.name = c.name
 GROUP BY 1, 2 LIMIT %(most)s
"""
_SPARKLINES: Final = "SELECT r.key_id, r.at, sum(r.calls)::bigint FROM ({rows}) r GROUP BY 1, 2"


def report(question: Question, now: datetime) -> Report:
    """Count the calls that a question asks for, exactly, in one statement.

    Raises:
        Invalid: as `questions.window`, or more than `MAX_POINTS` points over all series (field `group_by`).
    """
    found = window(question, now)
    counts = _counts(question, found)
    names = sorted({name for name, _ in counts}, key=lambda name: (name == OTHER, str(name)))
    if question.group_by is None:
        names = [None]
    if len(counts) > MAX_POINTS or len(found.buckets) * len(names) > MAX_POINTS:
        message = f"More than {MAX_POINTS:,} points: choose a wider interval, a shorter range or a filter."
        raise Invalid(message, field="group_by")
    series = [_series(name, found, counts) for name in names]
    # Stable: names stay in order among equals, and what is only the rest comes last.
    series.sort(key=lambda one: (question.top is not None and one.group == OTHER, -one.totals.calls))
    return Report(series=series, totals=_sum([one.totals for one in series]), window=found)


def sparklines(organization_id: str, key_ids: Collection[str], now: datetime) -> dict[str, list[int]]:
    """Return the calls of each key on each of the last 14 days (UTC), today last; one statement for all keys."""
    first = floor(now, Grain.DAY) - timedelta(days=SPARKLINE_DAYS - 1)
    found = Window(Grain.DAY, first, first + timedelta(days=SPARKLINE_DAYS))
    lines = {key_id: [0] * SPARKLINE_DAYS for key_id in key_ids}
    if not lines:
        return lines
    sql, parameters = counted({"organization_id": [organization_id], "key_id": list(lines)})
    for key_id, at, calls in rows(_SPARKLINES.format(rows=sql), {**parameters, **bounds(found)}):
        lines[key_id][(at - first).days] = calls
    return lines


def bounds(found: Window) -> dict[str, Any]:
    """Return the parameters by which the rows know a window."""
    return {
        "grain": found.grain.value,
        "unit": UNITS[found.grain],
        "since": found.since,
        "until": found.until,
    }


def _counts(question: Question, found: Window) -> dict[tuple[str | None, datetime], Totals]:
    columns: dict[str, Collection[str] | None] = {
        column: question.filters.get(group) for group, column in _COLUMNS.items()
    }
    if question.organization_id is not None:
        chosen = columns["organization_id"]
        is_left_out = chosen is not None and question.organization_id not in chosen
        columns["organization_id"] = [] if is_left_out else [question.organization_id]
    sql, parameters = counted(columns)
    places = {
        "environments": _listed(question.filters.get(GroupBy.ENVIRONMENT)),
        "projects": _listed(question.filters.get(GroupBy.PROJECT)),
        "reached": _listed(question.project_ids),
    }
    by_place = question.group_by in {GroupBy.ENVIRONMENT, GroupBy.PROJECT}
    is_placed = by_place or any(values is not None for values in places.values())
    statement = _REPORT.format(
        group=_GROUPS[question.group_by], rows=sql, places=_PLACES if is_placed else ""
    )
    limits = {"top": question.top, "other": OTHER, "most": MAX_POINTS + 1}
    answer = rows(statement, {**parameters, **places, **limits, **bounds(found)})
    return {
        (name, at): Totals(calls=calls, refused=refused, cost=cost)
        for at, name, calls, refused, cost in answer
    }


def _listed(values: Collection[str] | None) -> list[str] | None:
    return None if values is None else list(values)


def _series(name: str | None, found: Window, counts: dict[tuple[str | None, datetime], Totals]) -> Series:
    points = [_point(at, counts.get((name, at), Totals())) for at in found.buckets]
    return Series(group=name, points=points, totals=_sum(points))


def _point(at: datetime, count: Totals) -> Point:
    return Point(at=at, calls=count.calls, refused=count.refused, cost=count.cost)


def _sum(parts: Sequence[Totals]) -> Totals:
    return Totals(
        calls=sum(part.calls for part in parts),
        refused=sum(part.refused for part in parts),
        cost=sum(part.cost for part in parts),
    )
