"""What usage pages show of a report: the chart, the same numbers in rows, and who made how much of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keys.forms.usage import HOUR, View
from keys.pages import charts
from keys.pages.charts import Columns, Piece
from keys.usage import OTHER, GroupBy, Report, Seen, Share, Totals, Traffic
from keys.usage.questions import WIDTHS
from keys.verdict import Code

MOST_STOPPED: Final = 6
LIMITS: Final = frozenset({Code.RATE_LIMITED, Code.QUOTA_EXCEEDED})
# The parts of a column from the lowest up: their color's name and what people call them.
PARTS: Final = (("valid", "Allowed"), ("limited", "Over a limit"), ("denied", "Denied"))
OUTCOMES: Final[Mapping[str, str]] = {
    Code.VALID: "Allowed",
    **{code: code.value.replace("_", " ").capitalize() for code in Code if code is not Code.VALID},
    Code.IP_NOT_ALLOWED: "Address not allowed",
}


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals in words."""

    totals: Totals

    @property
    def calls(self) -> str:
        """All calls; empty where there are none."""
        return counted(self.totals.calls) if self.totals.calls else ""

    @property
    def calls_words(self) -> str:
        """All calls, as a number."""
        return counted(self.totals.calls)

    @property
    def said(self) -> str:
        """All calls, as a reader of the screen hears it."""
        return "1 call" if self.totals.calls == 1 else f"{self.totals.calls:,} calls"

    @property
    def refused(self) -> str:
        """Those that were not let through; empty where there are none."""
        return counted(self.totals.refused) if self.totals.refused else ""

    @property
    def refused_words(self) -> str:
        """Those that were not let through, as a number."""
        return counted(self.totals.refused)

    @property
    def rate(self) -> str:
        """How many of all were refused."""
        return rate(self.totals)

    @property
    def cost(self) -> str:
        """What the valid ones spent."""
        return counted(self.totals.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a color stands for, and how many calls."""

    name: str
    label: str
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One column of the chart as a row: when, its numbers as the legend has them, and the address of it alone."""

    at: str
    cells: tuple[str, ...]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A chart with what stands beside it."""

    columns: Columns
    legend: tuple[Entry, ...]
    lines: tuple[Line, ...]
    title: str
    about: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What a group is called: `sub` stands below, `page` leads to what it is, `is_code` for a machine's word."""

    label: str
    sub: str = ""
    page: str = ""
    is_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of calls in words; `url` narrows the page to it."""

    name: Name
    calls: str
    refused: str
    rate: str
    cost: str
    bar: tuple[Piece, ...]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """One endpoint, region or address whose calls stop: how many in words, when the last came, its share drawn."""

    name: str
    calls: str
    last_at: datetime
    bar: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """What would stop: by endpoint, region and address, each in words, its first few, and how many more there are.

    `is_partial`: addresses are those of the latest calls alone.
    """

    calls: int
    words: str
    lists: tuple[tuple[str, tuple[Stopped, ...], int], ...]
    is_partial: bool


def stops(traffic: Traffic) -> Stops:
    """Return in words what some keys carried, and what a revocation would stop."""
    kinds = (
        ("Endpoints", traffic.by_endpoint),
        ("Regions", traffic.by_region),
        ("Addresses", traffic.by_ip),
    )
    return Stops(
        calls=traffic.calls,
        words="1 call" if traffic.calls == 1 else f"{traffic.calls:,} calls",
        lists=tuple(
            (label, _stopped(found), max(len(found) - MOST_STOPPED, 0)) for label, found in kinds if found
        ),
        is_partial=not traffic.are_ips_complete,
    )


def drawn(report: Report, view: View, of: str, address: Callable[[View], str]) -> Drawn:
    """Return the chart of a report that tells outcomes apart.

    Args:
        report: grouped by outcome.
        view: what the page shows; `address` turns another such into its address.
        of: whose calls, for who can't see the chart: `Calls with prod-ingest`.
    """
    step, times = WIDTHS[report.window.grain], report.window.buckets
    series = [
        charts.Series(name=name, label=label, values=_values(report, name, len(times)))
        for name, label in PARTS
    ]
    totals = {one.name: sum(one.values) for one in series}
    chart = charts.columns(series, times, step)
    words = " · ".join(f"{totals[name]:,} {label.lower()}" for name, label in PARTS)
    return Drawn(
        columns=chart,
        legend=tuple(
            Entry(name=name, label=label, number=counted(totals[name])) for name, label in reversed(PARTS)
        ),
        lines=_lines(report, series, view, address),
        title=f"{of} in {view.words}",
        about=f"One column for each {report.window.grain.label}, in UTC. In all {words}.",
        step=report.window.grain.label,
    )


def groups(
    shares: Sequence[Share],
    name_of: Callable[[str], Name],
    url_of: Callable[[str], str],
    *,
    by: GroupBy,
) -> list[Group]:
    """Return groups in words, each with its share of the largest; what has no calls is left out."""
    most = max((one.totals.calls for one in shares), default=0)
    found = []
    for one in shares:
        group, totals = one.group or "", one.totals
        is_rest = group == OTHER
        pieces = [("valid", totals.calls - totals.refused), ("denied", totals.refused)]
        if by is GroupBy.OUTCOME:
            pieces = [(part_of(group), totals.calls)]
        if totals.calls:
            found.append(
                Group(
                    name=Name(label="All others") if is_rest else name_of(group),
                    calls=counted(totals.calls),
                    refused=counted(totals.refused),
                    rate=rate(totals),
                    cost=counted(totals.cost),
                    bar=charts.bar(pieces, most),
                    url="" if is_rest else url_of(group),
                )
            )
    return found


def part_of(code: str) -> str:
    """Return which part of a column an outcome belongs to."""
    if code == Code.VALID:
        return "valid"
    return "limited" if code in LIMITS else "denied"


def outcome(code: str) -> str:
    """Return an outcome in words; of one not known, its code."""
    return OUTCOMES.get(code, code)


def rate(totals: Totals) -> str:
    """Return the share of calls that were refused, so that few are not none and most are not all."""
    return percent(totals.refused, totals.calls)


def percent(part: int, whole: int) -> str:
    """Return a share in percent: `0 %`, `<0.1 %`, `12.3 %`, `>99.9 %`, `100 %`."""
    if not whole or not part:
        return "0 %"
    if part == whole:
        return "100 %"
    share = part * 100 / whole
    if share < 0.1:  # noqa: PLR2004 - the last digit that is shown
        return "<0.1 %"
    return f"{share:.1f} %" if share < 99.95 else ">99.9 %"  # noqa: PLR2004 - would be rounded to all


def counted(number: int) -> str:
    """Return a number for people: `1,234`."""
    return f"{number:,}"


def _values(report: Report, part: str, length: int) -> tuple[int, ...]:
    chosen = [one.points for one in report.series if part_of(one.group or "") == part]
    return tuple(sum(points[index].calls for points in chosen) for index in range(length))


def _lines(
    report: Report, series: Sequence[charts.Series], view: View, address: Callable[[View], str]
) -> tuple[Line, ...]:
    """Return the columns as rows, the newest first; a minute is as narrow as it gets."""
    step, lines = WIDTHS[report.window.grain], []
    for index, at in enumerate(report.window.buckets):
        parts = [one.values[index] for one in series]
        cost = sum(one.points[index].cost for one in report.series)
        cells = (sum(parts), *reversed(parts), cost)
        lines.append(
            Line(
                at=charts.spoken_time(at, step),
                cells=tuple(map(counted, cells)),
                url=address(view.during(at, at + step)) if step >= HOUR and any(parts) else "",
            )
        )
    return tuple(reversed(lines))


def _stopped(found: Mapping[str, Seen]) -> tuple[Stopped, ...]:
    most = max(seen.calls for seen in found.values())
    return tuple(
        Stopped(
            name=name,
            calls=counted(seen.calls),
            last_at=seen.last_at,
            bar=charts.bar([("valid", seen.calls)], most),
        )
        for name, seen in list(found.items())[:MOST_STOPPED]
    )
