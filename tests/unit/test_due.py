"""When a key is spoken of, and when it rotates by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import due
from keys.errors import Invalid

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAYS = [30, 7, 1]
MINUTE = timedelta(minutes=1)


def look(left, settled=(), *, is_stopped=False, thresholds=DAYS):
    return due.look(
        expires_at=NOW + left, thresholds=thresholds, settled=settled, is_stopped=is_stopped, now=NOW
    )


def days(count):
    return timedelta(days=count)


class TestLook:
    @pytest.mark.parametrize(
        ("left", "settled", "tell", "passed", "next_in"),
        [
            (days(90), (), None, (), days(60)),
            (days(30), (), 30, (), days(23)),
            (days(30) - MINUTE, (30,), None, (), days(23) - MINUTE),
            (days(30) + MINUTE, (), None, (), MINUTE),
            # Made with five days to live: the nearest alone.
            (days(5), (), 7, (30,), days(4)),
            (days(5), (30, 7), None, (), days(4)),
            # The worker was down for ten days.
            (timedelta(hours=20), (30,), 1, (7,), timedelta(hours=20)),
            (timedelta(hours=20), (30, 7, 1), None, (), timedelta(hours=20)),
            (timedelta(0), (30, 7, 1), 0, (), None),
            (-days(10), (30,), 0, (7, 1), None),
            (-days(10), (30, 7, 1, 0), None, (), None),
            (-days(10), (0,), None, (30, 7, 1), None),
            # A threshold that was added after a nearer one was told.
            (days(5), (7,), None, (30,), days(4)),
        ],
    )
    def test_what_is_told_and_when_to_look_again(self, left, settled, tell, passed, next_in):
        found = look(left, settled)
        expected = (tell, passed, None if next_in is None else NOW + next_in)
        assert (found.tell, found.pass_over, found.next_at) == expected

    def test_nobody_is_warned_of_what_is_stopped_but_its_end_is_told(self):
        stopped = look(days(5), is_stopped=True)
        assert (stopped.tell, stopped.pass_over, stopped.next_at) == (None, (), NOW + days(5))
        assert look(-MINUTE, is_stopped=True).tell == 0

    @given(
        st.lists(st.integers(1, 365), min_size=1, max_size=5, unique=True),
        st.integers(-400 * 24, 400 * 24),
        st.lists(st.integers(0, 400 * 24), min_size=1, max_size=12),
    )
    def test_however_the_clock_moves_each_is_told_once_and_the_end_at_the_end(self, thresholds, end, steps):
        settled, told, now = set(), [], NOW
        expires_at = NOW + timedelta(hours=end)
        for step in [0, *steps, 10_000]:
            now += timedelta(hours=step)
            found = due.look(
                expires_at=expires_at, thresholds=thresholds, settled=settled, is_stopped=False, now=now
            )
            assert found.next_at is None or found.next_at > now
            settled |= {*found.pass_over, *([] if found.tell is None else [found.tell])}
            told += [] if found.tell is None else [found.tell]
        assert told == sorted(set(told), reverse=True)
        assert told[-1] == 0
        assert settled == {*thresholds, 0}

    @given(st.integers(1, 365 * 24))
    def test_nothing_is_missed_when_it_looks_again_no_sooner_than_told(self, hours):
        now, settled, told = NOW, set(), []
        expires_at = NOW + timedelta(hours=hours)
        while now is not None:
            found = due.look(
                expires_at=expires_at, thresholds=DAYS, settled=settled, is_stopped=False, now=now
            )
            settled |= {*found.pass_over, *([] if found.tell is None else [found.tell])}
            told += [] if found.tell is None else [(found.tell, now)]
            now = found.next_at
        # Each threshold is told to the second, but that of a secret made within it: at once.
        assert all(at == max(NOW, expires_at - days(one)) for one, at in told)


class TestThresholds:
    def test_they_fall(self):
        assert due.check_notice_days([1, 60, 7]) == [60, 7, 1]

    @pytest.mark.parametrize("wrong", [[], [1, 1], [0], [366], [-1], [1, 2, 3, 4, 5, 6]])
    def test_others_are_refused(self, wrong):
        with pytest.raises(Invalid) as caught:
            due.check_notice_days(wrong)
        assert caught.value.field == "notice_days"


@pytest.mark.parametrize(
    ("left", "says"),
    [(days(7), 7), (days(7) - MINUTE, 7), (days(6), 6), (MINUTE, 1), (timedelta(0), 0), (-days(3), 0)],
)
def test_a_begun_day_counts(left, says):
    assert due.days_left(NOW + left, NOW) == says


class TestNextTurn:
    def turn(self, interval, expires_in=None, grace=86_400):
        expires_at = None if expires_in is None else NOW + expires_in
        return due.next_turn(made_at=NOW, expires_at=expires_at, interval_days=interval, grace_seconds=grace)

    @pytest.mark.parametrize(
        ("interval", "expires_in", "grace", "at", "lives_on"),
        [
            (90, None, 86_400, days(89), 86_400),
            (90, days(90), 86_400, days(89), 86_400),
            (90, days(30), 86_400, days(29), 86_400),
            (1, None, 86_400, days(0.5), 43_200),
            (1, None, 3_600, days(1) - timedelta(hours=1), 3_600),
            (2, None, 2_592_000, days(1), 86_400),
        ],
    )
    def test_a_grace_before_the_end(self, interval, expires_in, grace, at, lives_on):
        found = self.turn(interval, expires_in, grace)
        assert (found.at, found.grace_seconds) == (NOW + at, lives_on)

    @given(st.integers(1, 365), st.none() | st.integers(1, 365 * 86_400), st.integers(1, 2_592_000))
    def test_it_is_after_it_was_made_and_over_before_it_dies(self, interval, expires_in, grace):
        expiry = None if expires_in is None else timedelta(seconds=expires_in)
        found = self.turn(interval, expiry, grace)
        end = min(days(interval), expiry or days(interval))
        assert NOW <= found.at < NOW + end
        assert found.at + timedelta(seconds=found.grace_seconds) <= NOW + end
        assert 1 <= found.grace_seconds <= grace
