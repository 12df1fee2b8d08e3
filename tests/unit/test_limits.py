"""Sliding windows and monthly quotas, against the formula of the spec and a slow oracle."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from keys import limits
from keys.limits import Bounds, Meter, Refusal, Spend, Window
from orgs.terms import RateLimit

NOW = 1_700_000_000_000
KEY, ORGANIZATION = "key_a", "org_a"
seconds = st.integers(1, 3_600)
counts = st.integers(0, 2_000)


@st.composite
def windows(draw):
    """A window with counts, and a moment within it."""
    length = draw(seconds)
    start = draw(st.integers(0, 10_000)) * length
    window = Window(length, start, draw(counts), draw(counts))
    return window, start * 1000 + draw(st.integers(0, length * 1000 - 1))


def formula(window, limit, cost, now_ms):
    w = window.seconds * 1000
    e = now_ms - window.start * 1000
    return window.current * w + window.previous * (w - e) + cost * w <= limit * w


class TestPasses:
    @given(windows(), st.integers(1, 5_000), st.integers(0, 5_000))
    def test_is_the_formula(self, at, limit, cost):
        window, now_ms = at
        found = limits.passes(window, RateLimit(limit, window.seconds), cost, now_ms)
        assert found is formula(window, limit, cost, now_ms)

    @given(windows(), st.integers(0, 3))
    def test_a_limit_of_zero_lets_nothing_through(self, at, cost):
        window, now_ms = at
        assert not limits.passes(window, RateLimit(0, window.seconds), cost, now_ms)

    @given(windows(), st.integers(1, 5_000))
    def test_remaining_is_the_largest_cost_that_passes(self, at, requests):
        window, now_ms = at
        limit = RateLimit(requests, window.seconds)
        left = limits.remaining(window, limit, now_ms)
        assert not limits.passes(window, limit, left + 1, now_ms)
        assert left == 0 or limits.passes(window, limit, left, now_ms)


class TestWindow:
    def test_begins_at_multiples_since_the_epoch(self):
        assert Window().at(60, 61_999) == Window(60, 60, 0, 0)

    def test_the_next_keeps_the_last(self):
        assert Window(60, 60, 7, 3).at(60, 120_000) == Window(60, 120, 0, 7)

    def test_a_later_one_keeps_nothing(self):
        assert Window(60, 60, 7, 3).at(60, 180_000) == Window(60, 180, 0, 0)

    def test_a_clock_that_went_back_opens_no_earlier_window(self):
        window = Window(60, 120, 7, 3)
        assert window.at(60, 90_000) == window
        assert window.elapsed(90_000) == 0

    @given(windows(), seconds)
    def test_another_length_forgives_nothing(self, at, length):
        """Whoever changes a key's window back and forth must not gain a fresh one each time."""
        window, now_ms = at
        assume(length != window.seconds)
        changed = window.at(length, now_ms)
        w, e = window.seconds * 1000, now_ms - window.start * 1000
        assert changed.current * w >= window.current * w + window.previous * (w - e)
        assert (changed.seconds, changed.previous) == (length, 0)


class TestRetryAfter:
    @settings(suppress_health_check=[HealthCheck.filter_too_much])
    @given(windows(), st.integers(1, 3_000), st.integers(0, 3_000))
    def test_then_it_passes_and_a_second_before_it_does_not(self, at, requests, cost):
        window, now_ms = at
        limit = RateLimit(requests, window.seconds)
        assume(cost <= requests and not limits.passes(window, limit, cost, now_ms))
        wait = limits.retry_after_seconds(window, limit, cost, now_ms)
        assert wait is not None
        assert wait >= 1
        then = now_ms + wait * 1000
        assert limits.passes(window.at(window.seconds, then), limit, cost, then)
        if wait > 1:
            before = then - 1000
            assert not limits.passes(window.at(window.seconds, before), limit, cost, before)

    @given(windows(), st.integers(0, 100), st.integers(1, 100))
    def test_what_can_never_pass_is_told(self, at, requests, more):
        window, now_ms = at
        limit = RateLimit(requests, window.seconds)
        assert limits.retry_after_seconds(window, limit, requests + more, now_ms) is None


class TestMeter:
    @given(st.lists(st.tuples(st.integers(0, 50_000), st.integers(0, 9)), max_size=60), st.integers(1, 20))
    def test_never_more_than_the_limit_by_the_formula(self, arrivals, requests):
        """One key, calls in their order, each judged by the formula over what was let through before."""
        limit, spent, now_ms = RateLimit(requests, 10), {}, NOW // 10_000 * 10_000
        window = Window()
        for pause, cost in arrivals:
            now_ms += pause
            meter = Meter(now_ms, windows={KEY: window})
            counted = meter.spend(KEY, ORGANIZATION, Bounds(rate_limit=limit), cost)
            start = now_ms // 10_000 * 10_000
            e = now_ms - start
            used = spent.get(start, 0) * 10_000 + spent.get(start - 10_000, 0) * (10_000 - e)
            assert (counted.refusal is None) is (used + cost * 10_000 <= requests * 10_000)
            if counted.refusal is None:
                spent[start] = spent.get(start, 0) + cost
            window = meter.windows[KEY]

    def test_a_group_is_admitted_in_its_order(self):
        meter = Meter(NOW, windows={KEY: Window()})
        bounds = Bounds(rate_limit=RateLimit(5, 60))
        outcomes = [meter.spend(KEY, ORGANIZATION, bounds, cost).refusal for cost in (3, 3, 2, 1)]
        assert outcomes == [None, Refusal.RATE_LIMITED, None, Refusal.RATE_LIMITED]

    def test_what_one_bound_refuses_costs_the_others_nothing(self):
        meter = Meter(NOW, windows={KEY: Window()}, organizations={ORGANIZATION: Spend(202311, 9)})
        bounds = Bounds(rate_limit=RateLimit(5, 60), organization_quota=10)
        assert meter.spend(KEY, ORGANIZATION, bounds, 2).refusal is Refusal.QUOTA_EXCEEDED
        assert (meter.windows[KEY].current, meter.moved_organizations) == (0, set())
        counted = meter.spend(KEY, ORGANIZATION, bounds, 1)
        assert (counted.refusal, counted.quota.used, counted.rate_limit.remaining) == (None, 10, 4)

    def test_a_look_costs_nothing(self):
        meter = Meter(NOW, windows={KEY: Window()})
        counted = meter.spend(KEY, ORGANIZATION, Bounds(rate_limit=RateLimit(1, 60)), 0)
        assert (counted.refusal, counted.rate_limit.remaining) == (None, 1)

    def test_the_tighter_quota_is_told(self):
        meter = Meter(NOW, tiers={KEY: Spend(202311, 95)}, organizations={ORGANIZATION: Spend(202311, 10)})
        counted = meter.spend(KEY, ORGANIZATION, Bounds(tier_quota=100, organization_quota=1_000), 1)
        assert (counted.quota.limit, counted.quota.used) == (100, 96)
        assert counted.quota.period_ends_at == datetime(2023, 12, 1, tzinfo=UTC)

    def test_a_new_month_begins_at_nothing(self):
        meter = Meter(NOW, organizations={ORGANIZATION: Spend(202310, 100)})
        assert meter.spend(KEY, ORGANIZATION, Bounds(organization_quota=100), 7).quota.used == 7

    def test_a_clock_that_went_back_a_month_forgives_nothing(self):
        meter = Meter(NOW, organizations={ORGANIZATION: Spend(202312, 100)})
        counted = meter.spend(KEY, ORGANIZATION, Bounds(organization_quota=100), 1)
        assert counted.refusal is Refusal.QUOTA_EXCEEDED

    def test_nothing_is_counted_without_bounds(self):
        assert not Bounds().counts


@pytest.mark.parametrize(
    ("now", "number", "end"),
    [
        (datetime(2026, 11, 30, 23, 59, tzinfo=UTC), 202611, datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), 202612, datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2027, 1, 1, tzinfo=UTC), 202701, datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_months(now, number, end):
    assert limits.period(now) == number
    assert limits.period_end(number) == end
