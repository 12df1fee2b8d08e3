"""Charts as shapes: from numbers to what templates draw as inline SVG. Pure.

Across, places are percentages of the picture, so that it fits any width without a script; up and down they are
pixels. No color is chosen here: a part has a name, and the style sheet knows its color in every theme.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

HEIGHT: Final = 168
SPARK_HEIGHT: Final = 22
# What is there is seen, however little it is beside the largest.
LEAST: Final = 1.0
MOST_LINES: Final = 4
MOST_MARKS: Final = 8
_ROUND: Final = (1, 2, 5)
# What a mark below the columns may be apart from the next.
_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 4320, 7200, 10080, 20160, 43200)
)
_EPOCH: Final = datetime(2001, 1, 1)  # noqa: DTZ001 - a Monday, at midnight in whatever zone is asked for
_THOUSANDS: Final = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One part of every column: the name that its color goes by, what people call it, and its numbers (0 or more)."""

    name: str
    label: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a column: `y` and `height` in pixels from the top of the picture."""

    name: str
    y: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `x` and `width` in percent, from the lowest part to the topmost; `title` says its numbers.

    `from_x` and `reach` are the place that belongs to it up to its neighbours', in percent.
    """

    x: float
    width: float
    from_x: float
    reach: float
    title: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A line across the picture, `y` pixels from its top, and the number that it stands for."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A time below the columns, `x` percent from the left. `is_minor`: may be left out where there is little room."""

    x: float
    label: str
    is_minor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A chart of stacked columns, `height` pixels high without its marks."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    marks: tuple[Mark, ...]
    height: int


@dataclass(frozen=True, slots=True)
class Spark:
    """The small columns of one key's numbers as two paths: the days with calls, and the dashes of those without."""

    columns: str
    dashes: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar that lies: `x` and `width` in percent."""

    name: str
    x: float
    width: float


def columns(series: Sequence[Series], times: Sequence[datetime], step: timedelta) -> Columns:
    """Return stacked columns of one height scale, one for each of `times`.

    Args:
        series: the parts from the lowest to the topmost, each with a number for every time.
        times: when each column begins, in order, in the zone in which people read them.
        step: how much time a column stands for.
    """
    totals = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    lines = scale(max(totals, default=0))
    top, share = lines[-1], 100 / max(len(times), 1)
    gap = share * (0.24 if share > 1 else 0.1)
    return Columns(
        columns=tuple(
            Column(
                x=share * index + gap / 2,
                width=share - gap,
                from_x=share * index,
                reach=share,
                title=_title(series, index, at, step),
                segments=_stacked(series, index, top),
            )
            for index, at in enumerate(times)
        ),
        lines=tuple(Line(HEIGHT - HEIGHT * number / top, short(number)) for number in lines),
        marks=_marks(times, step),
        height=HEIGHT,
    )


def scale(most: int) -> tuple[int, ...]:
    """Return round numbers from 0 up to `most` or just above it: 1, 2 or 5 times a power of ten apart."""
    step = 1
    while step * MOST_LINES < most:
        step = next(
            candidate
            for power in (10 ** (len(str(step)) - 1), 10 ** len(str(step)))
            for candidate in (power * each for each in _ROUND)
            if candidate > step
        )
    count = max(-(-most // step), 1)
    return tuple(step * number for number in range(count + 1))


def parts(values: Sequence[int], size: float) -> tuple[float, ...]:
    """Share a size out in proportion; what is more than nothing gets at least a pixel, where there are as many.

    The shares add up to `size`, or to 0 where every value is 0.
    """
    whole, present = sum(values), sum(value > 0 for value in values)
    if not whole:
        return tuple(0.0 for _ in values)
    least = min(LEAST, size / present)
    rest = size - least * present
    return tuple(least + rest * (value / whole) if value else 0.0 for value in values)


def sparkline(values: Sequence[int]) -> Spark:
    """Return small columns, each 4 pixels wide, 6 apart; a day without calls is a dash.

    As paths: a list shows so many of them that a shape for each day would be most of its page.
    """
    top = max(values, default=0) or 1
    drawn = [
        (
            value,
            f"M{6 * index} {SPARK_HEIGHT}v-{max(value / top * (SPARK_HEIGHT - 2), LEAST):.1f}h4V{SPARK_HEIGHT}z",
        )
        for index, value in enumerate(values)
    ]
    return Spark(
        columns="".join(path for value, path in drawn if value),
        dashes="".join(path for value, path in drawn if not value),
    )


def bar(named: Sequence[tuple[str, int]], most: int) -> tuple[Piece, ...]:
    """Return the pieces of a bar that lies, as long as its sum is of `most`, in percent; no sum is above `most`."""
    whole = sum(value for _, value in named)
    length = max(whole / most * 100, LEAST) if whole else 0.0
    pieces, x = [], 0.0
    for (name, value), width in zip(named, parts([value for _, value in named], length), strict=True):
        if value:
            pieces.append(Piece(name, x, width))
        x += width
    return tuple(pieces)


def short(number: int) -> str:
    """Return a number in at most three digits and a letter: `950`, `1.2k`, `15M`."""
    for size, letter in _THOUSANDS:
        # What would round up to a thousand of the smaller unit is one of the larger.
        if number >= size - size / 2000:
            return f"{number / size:.{1 if number < 9.95 * size else 0}f}".removesuffix(".0") + letter
    return str(number)


def spoken_time(at: datetime, step: timedelta) -> str:
    """Return when a column begins, as exactly as its width makes sense: `20 Nov 2026` or `20 Nov, 14:05`."""
    return f"{at:%-d %b %Y}" if step >= timedelta(days=1) else f"{at:%-d %b, %H:%M}"


def _title(series: Sequence[Series], index: int, at: datetime, step: timedelta) -> str:
    numbers = [f"{one.values[index]:,} {one.label.lower()}" for one in series if one.values[index]]
    return f"{spoken_time(at, step)} · {' · '.join(numbers) or 'no calls'}"


def _stacked(series: Sequence[Series], index: int, top: int) -> tuple[Segment, ...]:
    values = [one.values[index] for one in series]
    whole, present = sum(values), sum(value > 0 for value in values)
    heights = parts(values, max(whole / top * HEIGHT, LEAST * present))
    segments, y = [], float(HEIGHT)
    for one, height in zip(series, heights, strict=True):
        y = max(y - height, 0.0)
        if height:
            segments.append(Segment(name=one.name, y=y, height=height))
    return tuple(segments)


def _marks(times: Sequence[datetime], step: timedelta) -> tuple[Mark, ...]:
    """Mark round times: whole hours, midnights, Mondays; every second of them is minor."""
    if not times:
        return ()
    apart = next(
        (each for each in _STEPS if each >= step and len(times) * step <= each * MOST_MARKS), _STEPS[-1]
    )
    epoch = _EPOCH.replace(tzinfo=times[0].tzinfo)
    marked = [index for index, at in enumerate(times) if not (at - epoch) % apart]
    return tuple(
        Mark(100 * index / len(times), _mark(times[index], apart), bool(number % 2))
        for number, index in enumerate(marked)
    )


def _mark(at: datetime, apart: timedelta) -> str:
    return f"{at:%-d %b}" if apart >= timedelta(days=1) or not (at.hour or at.minute) else f"{at:%H:%M}"
