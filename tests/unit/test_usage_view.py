"""Addresses of usage pages, and numbers in words."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from keys.forms.usage import GROUPS, LONGEST, RANGES, View, grain_of
from keys.models import Grain
from keys.pages import figures, meters
from keys.usage import MAX_BUCKETS
from keys.verdict import Code

NOW = datetime(2026, 11, 20, 12, 34, 56, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MINUTES = st.integers(0, 365 * 24 * 60).map(
    lambda minutes: NOW.replace(second=0) - timedelta(minutes=minutes)
)
TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=40)
VIEWS = st.builds(
    View,
    range=st.sampled_from(list(RANGES)),
    by=st.sampled_from(list(GROUPS)),
    environment=st.none() | st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True),
    project=st.none() | st.just("prj_" + "a2" * 10),
    key=st.none() | st.just("key_" + "b3" * 10),
    endpoint=st.none() | TEXTS,
    region=st.none() | TEXTS,
    outcome=st.none() | st.sampled_from(list(Code)).map(str),
)


def read(text):
    return View.of(QueryDict(text), NOW)


@given(VIEWS)
def test_an_address_is_its_view(view):
    found = read(urlencode(view.query()))
    assert found == view


@given(MINUTES, MINUTES)
def test_any_range_of_ones_own_is_kept_or_explained(one, other):
    view = View().during(min(one, other), max(one, other))
    found = read(urlencode(view.query()))
    if one == other or max(one, other) - min(one, other) > LONGEST or min(one, other) >= NOW:
        assert found.problem
        assert found.since is None
    else:
        assert found == view
    window = found.window(NOW)
    assert 0 < len(window.buckets) <= 400 < MAX_BUCKETS
    assert window.since <= (found.since or NOW) < window.until


@given(st.text(max_size=200))
def test_whatever_is_typed_there_is_a_view(text):
    found = View.of(QueryDict(text, encoding="utf-8"), NOW)
    assert found.range in RANGES
    assert found.by in GROUPS


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T05:06:59", datetime(2026, 11, 1, 5, 6, tzinfo=UTC)),
        ("2026-11-01T05:06+02:00", datetime(2026, 11, 1, 3, 6, tzinfo=UTC)),
        ("2019-11-01", None),
        ("0001-01-01T00:00+14:00", None),
        ("x", None),
        ("", None),
    ],
)
def test_instants(text, since):
    assert read(urlencode({"since": text, "until": "2026-11-10"})).since == since


@pytest.mark.parametrize(
    ("name", "grain", "columns"),
    [
        ("1h", Grain.MINUTE, 60),
        ("24h", Grain.HOUR, 24),
        ("7d", Grain.HOUR, 168),
        ("30d", Grain.DAY, 30),
        ("90d", Grain.DAY, 90),
    ],
)
def test_the_columns_of_a_range_end_with_the_present(name, grain, columns):
    window = View(range=name).window(NOW)
    assert window.grain is grain
    assert len(window.buckets) == columns
    assert window.buckets[-1] <= NOW < window.until


@pytest.mark.parametrize(
    ("length", "age", "grain"),
    [
        (HOUR, HOUR, Grain.MINUTE),
        (HOUR, 8 * DAY, Grain.HOUR),
        (HOUR, 401 * DAY, Grain.DAY),
        (3 * HOUR, 3 * HOUR, Grain.HOUR),
        (8 * DAY, 8 * DAY, Grain.DAY),
    ],
)
def test_columns_are_as_fine_as_is_kept(length, age, grain):
    assert grain_of(NOW - age, NOW - age + length, NOW) is grain


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 1_000_000, "<0.1 %"),
        (999_999, 1_000_000, ">99.9 %"),
        (1, 1_000, "0.1 %"),
    ],
)
def test_shares_in_words(part, whole, words):
    assert figures.percent(part, whole) == words


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_few_are_not_none_and_most_are_not_all(part, more):
    words = figures.percent(part, part + more)
    assert (words == "0 %") == (part == 0)
    assert (words == "100 %") == (part > 0 and more == 0)


def test_every_outcome_has_words_and_a_color():
    assert set(figures.OUTCOMES) == set(Code)
    assert {code for code in Code if figures.part_of(code) == "valid"} == {Code.VALID}
    assert {code for code in Code if figures.part_of(code) == "limited"} == figures.LIMITS
    assert figures.outcome("OF_TOMORROW") == "OF_TOMORROW"
    assert figures.part_of("OF_TOMORROW") == "denied"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "a second"),
        (60, "a minute"),
        (3_600, "an hour"),
        (86_400, "a day"),
        (600, "10 minutes"),
        (90, "90 seconds"),
    ],
)
def test_windows_in_words(seconds, words):
    assert meters.spoken_window(seconds) == words
