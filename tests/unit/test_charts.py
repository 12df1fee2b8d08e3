"""Charts: whatever the numbers, nothing leaves its picture, nothing is lost, and the lines are round."""

import itertools
import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.pages import charts
from keys.pages.charts import Series

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NAMES = ("valid", "limited", "refused")
DAY_PATH = re.compile(r"M(\d+) 22v-(\d+\.\d)h4V22z")
NUMBERS = st.integers(0, 10**12)
TABLES = st.integers(0, 60).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1, max_size=3)
)


def draw(*rows, step=HOUR, start=NOON):
    """Return the chart of rows of numbers, the lowest part first."""
    series = [
        Series(name=name, label=name.capitalize(), values=row) for name, row in zip(NAMES, rows, strict=False)
    ]
    return charts.columns(series, [start + step * index for index in range(len(rows[0]))], step)


@given(TABLES)
def test_every_column_stays_in_the_picture_and_is_as_high_as_its_sum(rows):
    chart = draw(*rows)
    assert len(chart.columns) == len(rows[0])
    top = _top(chart, rows)
    for index, column in enumerate(chart.columns):
        values = [row[index] for row in rows]
        assert column.x >= 0
        assert column.width > 0
        assert column.x + column.width <= 100.0001
        assert [segment.name for segment in column.segments] == [
            name for name, value in zip(NAMES, values, strict=False) if value
        ]
        heights = [segment.height for segment in column.segments]
        assert all(math.isfinite(height) and height > 0 for height in heights)
        wanted = max(sum(values) / top * chart.height, charts.LEAST * len(heights))
        assert math.isclose(sum(heights), wanted, abs_tol=1e-6)
        # One stands on the other, the lowest on the ground.
        edges = [chart.height, *(segment.y for segment in column.segments)]
        for below, segment in zip(edges, column.segments, strict=False):
            assert math.isclose(segment.y + segment.height, below, abs_tol=1e-6)
            assert segment.y >= 0


def _top(chart, rows):
    return charts.scale(max((sum(values) for values in zip(*rows, strict=True)), default=0))[-1]


@given(st.integers(0, 10**15))
def test_lines_are_round_few_and_reach_above_the_largest(most):
    lines = charts.scale(most)
    steps = {after - before for before, after in itertools.pairwise(lines)}
    assert lines[0] == 0
    assert lines[-1] >= most
    assert len(steps) == 1
    assert str(steps.pop()).rstrip("0") in {"1", "2", "5"}
    assert 2 <= len(lines) <= charts.MOST_LINES + 1
    assert most == 0 or lines[-2] < most


@given(st.lists(NUMBERS, max_size=20), st.floats(0, 1000))
def test_shares_add_up(values, size):
    shares = charts.parts(values, size)
    assert all(math.isfinite(share) and share >= 0 for share in shares)
    assert math.isclose(sum(shares), size if any(values) else 0, rel_tol=1e-9, abs_tol=1e-6)
    assert all(share == 0 for value, share in zip(values, shares, strict=True) if not value)


@given(st.lists(NUMBERS, max_size=14))
def test_a_sparkline_stays_in_its_picture(values):
    spark = charts.sparkline(values)
    for path, present in ((spark.columns, True), (spark.dashes, False)):
        found = [(int(x), float(height)) for x, height in DAY_PATH.findall(path)]
        assert DAY_PATH.sub("", path) == ""
        assert [x // 6 for x, _ in found] == [
            index for index, value in enumerate(values) if bool(value) is present
        ]
        assert all(charts.LEAST <= height <= charts.SPARK_HEIGHT - 2 for _, height in found)
        assert present or all(height == charts.LEAST for _, height in found)


def test_the_busiest_day_of_a_sparkline_is_the_highest():
    assert charts.sparkline([0, 5, 10]).columns == "M6 22v-10.0h4V22zM12 22v-20.0h4V22z"


@given(st.lists(NUMBERS, min_size=1, max_size=3), NUMBERS)
def test_a_bar_is_as_long_as_its_part_of_the_most(values, more):
    most = sum(values) + more
    pieces = charts.bar(list(zip(NAMES, values, strict=False)), most)
    assert len(pieces) == sum(value > 0 for value in values)
    x = 0.0
    for piece in pieces:
        assert math.isclose(piece.x, x, abs_tol=1e-9)
        assert piece.width > 0
        x += piece.width
    assert x <= 100.0001
    assert not pieces or math.isclose(x, max(sum(values) / most * 100, charts.LEAST), abs_tol=1e-6)


def test_one_call_among_a_million_is_seen():
    chart = draw([1_000_000, 1], [1, 0])
    many, one = chart.columns
    assert [segment.name for segment in many.segments] == ["valid", "limited"]
    assert min(segment.height for segment in (*many.segments, *one.segments)) >= charts.LEAST


def test_a_single_call_stands_alone():
    chart = draw([1])
    assert [line.label for line in chart.lines] == ["0", "1"]
    assert chart.columns[0].segments[0].height == chart.height
    assert chart.columns[0].title == "20 Nov, 12:00 · 1 valid"


def test_nothing_at_all_has_lines_and_no_segments():
    chart = draw([0, 0, 0], step=DAY)
    assert [line.y for line in chart.lines] == [chart.height, 0]
    assert not any(column.segments for column in chart.columns)
    assert chart.columns[0].title == "20 Nov 2026 · no calls"


def test_no_columns_at_all():
    chart = draw([])
    assert (chart.columns, chart.marks) == ((), ())


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1k"),
        (1_250, "1.2k"),
        (9_949, "9.9k"),
        (9_950, "10k"),
        (15_500_000, "16M"),
        (999_499, "999k"),
        (999_501, "1M"),
        (2_000_000_000, "2B"),
    ],
)
def test_short_numbers(number, words):
    assert charts.short(number) == words


@given(st.integers(0, 10**11))
def test_a_short_number_is_at_most_four_characters_and_near(number):
    words = charts.short(number)
    size = {"k": 1e3, "M": 1e6, "B": 1e9}.get(words[-1], 1)
    assert len(words) <= 4
    assert math.isclose(float(words.rstrip("kMB")) * size, number, rel_tol=0.051, abs_tol=0.5)


@pytest.mark.parametrize(
    ("count", "step", "start", "labels"),
    [
        (60, timedelta(minutes=1), NOON, ["12:00", "12:10", "12:20", "12:30", "12:40", "12:50"]),
        (24, HOUR, NOON + HOUR, ["15:00", "18:00", "21:00", "21 Nov", "03:00", "06:00", "09:00", "12:00"]),
        (
            168,
            HOUR,
            NOON,
            ["21 Nov", "22 Nov", "23 Nov", "24 Nov", "25 Nov", "26 Nov", "27 Nov"],
        ),
        (90, DAY, datetime(2026, 11, 2, tzinfo=UTC), None),
    ],
)
def test_marks_stand_at_round_times(count, step, start, labels):
    marks = draw([0] * count, step=step, start=start).marks
    assert labels is None or [mark.label for mark in marks] == labels
    assert 2 <= len(marks) <= charts.MOST_MARKS
    assert [mark.is_minor for mark in marks] == [bool(index % 2) for index in range(len(marks))]
    assert all(0 <= mark.x < 100 for mark in marks)
