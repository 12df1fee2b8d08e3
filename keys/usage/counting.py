"""Calls counted by bucket of time: the report behind the Usage page and the API, and a list's sparklines."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from keys.errors import Invalid
from keys.models import Grain
from keys.usage.answers import Overview, Point, Report, Series, Share, Totals
from keys.usage.questions import MAX_POINTS, OTHER, GroupBy, Question, Window, floor, window
from keys.usage.rows import bounds, counted, many_rows, rows
from keys.usage.sources import GROUPS, SUMS, Source

type Counts = dict[tuple[str | None, datetime], Totals]

SPARKLINE_DAYS: Final = 14
_REPORT: Final = """
WITH counted AS (
    SELECT r.at, {group} AS name, {sums} FROM {rows} GROUP BY 1, 2
), best AS (
    SELECT name FROM counted GROUP BY name ORDER BY sum(calls) DESC, name LIMIT %(top)s
)
SELECT c.at, CASE WHEN c.name IS NULL OR b.name IS NOT NULL THEN c.name ELSE %(other)s END AS series,
       sum(c.calls)::bigint, sum(c.refused)::bigint, sum(c.cost)::bigint
  FROM counted c LEFT JOIN best b ON b.name = c.name
 GROUP BY 1, 2 LIMIT %(most)s
"""
# Of 100,000 keys the points of the busiest alone are looked up; what the others had is what these leave of the whole.
_REPORT_OF_KEYS: Final = """
WITH best AS MATERIALIZED (
    SELECT name FROM ({totals}) t ORDER BY calls DESC, name LIMIT %(most_keys)s
)
SELECT r.at, r.key_id::text, {sums} FROM {rows} WHERE r.key_id = ANY(ARRAY(SELECT name FROM best)) GROUP BY 1, 2
UNION ALL
SELECT r.at, NULL, {sums} FROM {whole} GROUP BY 1
"""
_OVERVIEW: Final = """
WITH counted AS MATERIALIZED ({counted})
SELECT '' AS kind, r.at, r.code::text AS name, {sums} FROM counted r GROUP BY 2, 3
"""
_SHARES: Final = """
SELECT '{kind}', NULL, CASE WHEN place <= %(top)s THEN name ELSE %(other)s END,
       sum(calls)::bigint, sum(refused)::bigint, sum(cost)::bigint
  FROM (SELECT *, row_number() OVER (ORDER BY calls DESC, name) AS place FROM ({totals}) t) t
 GROUP BY 3
"""
_SPARKLINES: Final = "SELECT r.key_id, r.at, sum(r.calls)::bigint FROM ({rows}) r GROUP BY 1, 2"


def report(question: Question, now: datetime) -> Report:
    """Count the calls that a question asks for, exactly, in one statement.

    Raises:
        Invalid: as `questions.window`, or more than `MAX_POINTS` points over all series (field `group_by`).
        TakesTooLong: there are more calls than can be counted in time.
    """
    found = window(question, now)
    counts = _of_keys(question, found) if question.group_by is GroupBy.KEY else _counts(question, found)
    names = sorted({name for name, _ in counts}, key=lambda name: (name == OTHER, str(name)))
    if question.group_by is None:
        names = [None]
    if len(counts) > MAX_POINTS or len(found.buckets) * len(names) > MAX_POINTS:
        raise _too_many()
    return _report(question, found, names, counts)


def overview(question: Question, by: Collection[GroupBy], now: datetime) -> Overview:
    """Count calls by outcome over time and, as a whole, by each of some groupings: one statement, the same calls.

    `question.group_by` does not matter; `question.top`, which is needed, bounds the shares of each grouping.

    Raises:
        Invalid: as `questions.window`.
        TakesTooLong: as `report`.
    """
    found = window(question, now)
    source = Source(question, found)
    all_counted = source.counted(*(each for each in by if each is not GroupBy.KEY))
    sql = [
        _OVERVIEW.format(counted=all_counted, sums=SUMS),
        *(_SHARES.format(kind=each, totals=source.totals(each)) for each in by),
    ]
    limits = {"top": question.top, "other": OTHER}
    answer = many_rows(" UNION ALL ".join(sql), {**source.parameters, **limits})
    counts: Counts = {(name, at): _totals(sums) for kind, at, name, *sums in answer if not kind}
    outcomes = sorted({name for name, _ in counts}, key=str)
    by_outcome = _report(replace(question, top=None), found, outcomes, counts)
    shares = {
        each: _shares((name, _totals(sums)) for kind, _, name, *sums in answer if kind == each) for each in by
    }
    return Overview(by_outcome=by_outcome, shares=shares)


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


def _counts(question: Question, found: Window) -> Counts:
    source = Source(question, found)
    groups = () if question.group_by is None else (question.group_by,)
    statement = _REPORT.format(group=GROUPS[question.group_by], sums=SUMS, rows=source.rows(*groups))
    limits = {"top": question.top, "other": OTHER, "most": MAX_POINTS + 1}
    answer = many_rows(statement, {**source.parameters, **limits})
    return {(name, at): _totals(sums) for at, name, *sums in answer}


def _of_keys(question: Question, found: Window) -> Counts:
    """Count by key; raises `Invalid` where all are asked for and are too many."""
    source, most = Source(question, found), MAX_POINTS // len(found.buckets)
    statement = _REPORT_OF_KEYS.format(
        sums=SUMS, totals=source.totals(GroupBy.KEY), rows=source.rows(GroupBy.KEY), whole=source.rows()
    )
    limits = {"most_keys": most + 1 if question.top is None else question.top}
    answer = many_rows(statement, {**source.parameters, **limits})
    counts: Counts = {(name, at): _totals(sums) for at, name, *sums in answer if name is not None}
    if question.top is None and len({name for name, _ in counts}) > most:
        raise _too_many()
    rest = {at: _totals(sums) for at, name, *sums in answer if name is None}
    for (_, at), count in counts.items():
        rest[at] = _less(rest[at], count)
    return counts | {(OTHER, at): left for at, left in rest.items() if left != Totals()}


def _too_many() -> Invalid:
    message = f"More than {MAX_POINTS:,} points: choose a wider interval, a shorter range or a filter."
    return Invalid(message, field="group_by")


def _report(question: Question, found: Window, names: Sequence[str | None], counts: Counts) -> Report:
    series = [_series(name, found, counts) for name in names]
    # Stable: names stay in order among equals, and what is only the rest comes last.
    series.sort(key=lambda one: (question.top is not None and one.group == OTHER, -one.totals.calls))
    return Report(series=series, totals=_sum([one.totals for one in series]), window=found)


def _shares(counts: Iterable[tuple[str, Totals]]) -> list[Share]:
    found = [Share(group=name, totals=totals) for name, totals in counts]
    return sorted(found, key=lambda one: (one.group == OTHER, -one.totals.calls, one.group))


def _totals(sums: Sequence[int]) -> Totals:
    calls, refused, cost = sums
    return Totals(calls=calls, refused=refused, cost=cost)


def _less(whole: Totals, part: Totals) -> Totals:
    return Totals(
        calls=whole.calls - part.calls, refused=whole.refused - part.refused, cost=whole.cost - part.cost
    )


def _series(name: str | None, found: Window, counts: Counts) -> Series:
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
