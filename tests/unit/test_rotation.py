from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import rotation
from keys.errors import Invalid, RotationRunning, SelfRotationRefused, StateForbids, VersionConflict
from keys.policy import DEFAULTS, ExpiryRule
from keys.rotation import Course, Itself, Mode, Secret, Standing, State
from keys.secret import Kind

bounded = settings(max_examples=25, deadline=None, database=None)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
RULE = DEFAULTS[Kind.CONTROL_PLANE]


def secret(version=1, expires_at=NOW + 60 * DAY, accepted_until=None, created_at=NOW - 30 * DAY):
    return Secret(
        version=version, created_at=created_at, expires_at=expires_at, accepted_until=accepted_until
    )


def key(*secrets, **changes):
    secrets = secrets or (secret(),)
    standing = Standing(
        secrets=secrets,
        newest_version=max(one.version for one in secrets),
        is_revoked=False,
        is_disabled=False,
        running_id=None,
        interval_days=None,
        rule=RULE,
    )
    return replace(standing, **changes)


def itself(**changes):
    return replace(Itself(version=1, may=True, person_touched_at=NOW - 30 * DAY), **changes)


def plan(standing=None, mode=Mode.GRACE, grace_seconds=None, version=None, itself=None, now=NOW):
    return rotation.plan(
        standing or key(), mode=mode, grace_seconds=grace_seconds, version=version, itself=itself, now=now
    )


class TestAccepted:
    @pytest.mark.parametrize(
        ("one", "newest", "expected"),
        [
            (secret(), 1, True),
            (secret(expires_at=None), 1, True),
            (secret(expires_at=NOW + TICK), 1, True),
            (secret(expires_at=NOW), 1, False),
            (secret(accepted_until=NOW + TICK), 2, True),
            (secret(accepted_until=NOW), 2, False),
            (secret(accepted_until=NOW + DAY, expires_at=NOW), 2, False),
            (secret(), 2, False),
            (secret(version=2, accepted_until=NOW), 1, False),
            (secret(accepted_until=NOW), 1, False),
        ],
    )
    def test_accepted(self, one, newest, expected):
        assert rotation.is_accepted(one, newest, NOW) is expected


class TestState:
    @pytest.mark.parametrize(
        ("course", "expected"),
        [
            (Course(ends_at=NOW + TICK), State.RUNNING),
            (Course(ends_at=NOW), State.COMPLETED),
            (Course(ends_at=NOW + DAY, completed_at=NOW), State.COMPLETED),
            (Course(ends_at=NOW + DAY, cancelled_at=NOW), State.CANCELLED),
            (Course(ends_at=NOW + DAY, superseded_at=NOW), State.SUPERSEDED),
            (Course(ends_at=NOW + DAY, superseded_at=NOW + TICK), State.RUNNING),
            (Course(ends_at=NOW - DAY, superseded_at=NOW), State.COMPLETED),
            (Course(ends_at=NOW, cancelled_at=NOW - DAY), State.CANCELLED),
        ],
    )
    def test_is_computed_from_time(self, course, expected):
        assert rotation.state(course, NOW) is expected


class TestGrace:
    def test_default_is_a_day(self):
        made = plan()
        assert made.old_accepted_until == NOW + DAY
        assert (made.old_version, made.new_version, made.supersedes) == (1, 2, False)

    @pytest.mark.parametrize("seconds", [1, 2_592_000])
    def test_bounds(self, seconds):
        assert plan(grace_seconds=seconds).old_accepted_until == NOW + timedelta(seconds=seconds)

    @pytest.mark.parametrize("seconds", [0, -1, 2_592_001, 10**18])
    def test_out_of_bounds(self, seconds):
        with pytest.raises(Invalid) as caught:
            plan(grace_seconds=seconds)
        assert caught.value.field == "grace_seconds"

    def test_never_past_the_old_secrets_expiry(self):
        assert plan(key(secret(expires_at=NOW + TICK))).old_accepted_until == NOW + TICK

    def test_one_at_a_time(self):
        with pytest.raises(RotationRunning) as caught:
            plan(key(running_id="rot_1"), version=7)
        assert caught.value.rotation_id == "rot_1"


class TestImmediate:
    def test_stops_the_old_at_once_and_supersedes(self):
        made = plan(key(running_id="rot_1"), mode=Mode.IMMEDIATE)
        assert made.old_accepted_until == NOW
        assert made.supersedes

    def test_has_no_grace(self):
        with pytest.raises(Invalid) as caught:
            plan(mode=Mode.IMMEDIATE, grace_seconds=60)
        assert caught.value.field == "grace_seconds"


class TestState409:
    @pytest.mark.parametrize(
        "standing",
        [
            key(is_revoked=True),
            key(is_disabled=True),
            key(secret(expires_at=NOW)),
            key(secret(accepted_until=NOW)),
        ],
    )
    @pytest.mark.parametrize("mode", Mode)
    def test_ended_and_disabled_keys_cannot_be_rotated(self, standing, mode):
        with pytest.raises(StateForbids):
            plan(standing, mode=mode)

    @pytest.mark.parametrize("mode", Mode)
    def test_another_version_than_the_caller_knows(self, mode):
        standing = key(secret(1, accepted_until=NOW), secret(2))
        assert plan(standing, mode=mode, version=2).old_version == 2
        for version in (1, 3, 0):
            with pytest.raises(VersionConflict):
                plan(standing, mode=mode, version=version)


class TestNewVersion:
    def test_no_number_is_used_twice(self):
        cancelled = key(secret(1), secret(2, accepted_until=NOW - DAY), newest_version=1)
        made = plan(cancelled)
        assert (made.old_version, made.new_version) == (1, 3)


class TestExpiry:
    def test_without_an_interval_the_expiry_stays(self):
        assert plan().new_expires_at == NOW + 60 * DAY

    def test_with_an_interval_the_lifetime_starts_anew(self):
        assert plan(key(interval_days=30)).new_expires_at == NOW + 90 * DAY

    def test_never_stays_never_where_the_rule_allows_it(self):
        forever = key(secret(expires_at=None), rule=DEFAULTS[Kind.INGESTION], interval_days=30)
        assert plan(forever).new_expires_at is None
        assert plan(forever, itself=itself()).new_expires_at is None

    def test_never_ends_where_the_rule_has_changed(self):
        assert plan(key(secret(expires_at=None))).new_expires_at == NOW + 90 * DAY

    @pytest.mark.parametrize("interval", [None, 30])
    def test_a_stricter_rule_cuts(self, interval):
        strict = ExpiryRule(default_days=5, max_days=10, may_never=False)
        assert plan(key(rule=strict, interval_days=interval)).new_expires_at == NOW + 10 * DAY


class TestItself:
    def test_may(self):
        assert plan(itself=itself()).new_version == 2

    def test_not_with_an_older_secret(self):
        standing = key(secret(1, accepted_until=NOW + DAY), secret(2))
        with pytest.raises(SelfRotationRefused):
            plan(standing, itself=itself())

    def test_not_where_switched_off(self):
        with pytest.raises(SelfRotationRefused):
            plan(itself=itself(may=False))

    def test_not_immediately(self):
        with pytest.raises(Invalid) as caught:
            plan(mode=Mode.IMMEDIATE, itself=itself())
        assert caught.value.field == "mode"

    def test_not_past_the_maximum_age(self):
        assert plan(itself=itself(person_touched_at=NOW - 365 * DAY + TICK))
        for touched in (NOW - 365 * DAY, NOW - 500 * DAY):
            with pytest.raises(SelfRotationRefused):
                plan(itself=itself(person_touched_at=touched))
        with pytest.raises(SelfRotationRefused):
            plan(itself=itself(max_age_days=30))

    def test_the_new_secret_does_not_outlive_it_either(self):
        touched = NOW - 360 * DAY
        made = plan(key(interval_days=90), itself=itself(person_touched_at=touched))
        assert made.new_expires_at == touched + 365 * DAY

    def test_runs_into_a_running_rotation(self):
        with pytest.raises(RotationRunning):
            plan(key(running_id="rot_1"), itself=itself())


STEPS = st.tuples(
    st.sampled_from(Mode),
    st.sampled_from([None, 1, 3600, 2_592_000]),
    st.booleans(),
    st.timedeltas(timedelta(), 40 * DAY),
)


class TestHistory:
    @bounded
    @given(st.lists(STEPS, max_size=6), st.sampled_from([None, 30]), st.integers(1, 400))
    def test_any_course_of_rotations(self, steps, interval, lifetime_days):
        """Follow what a plan says it writes, and see that the promises hold at every moment."""
        now, ends_at = NOW, None
        secrets = {1: secret(created_at=NOW, expires_at=NOW + timedelta(days=lifetime_days))}
        for mode, grace, is_self, pause in steps:
            now += pause
            newest = max(secrets)
            standing = Standing(
                secrets=tuple(secrets.values()),
                newest_version=newest,
                is_revoked=False,
                is_disabled=False,
                running_id="rot_1" if ends_at and ends_at > now else None,
                interval_days=interval,
                rule=RULE,
            )
            who = Itself(version=newest, may=True, person_touched_at=NOW) if is_self else None
            try:
                made = plan(standing, mode, grace if mode is Mode.GRACE else None, itself=who, now=now)
            except (StateForbids, RotationRunning, SelfRotationRefused, Invalid):
                continue
            for version, one in secrets.items():
                stops = made.old_accepted_until if version == made.old_version else now
                secrets[version] = replace(one, accepted_until=min(one.accepted_until or stops, stops))
            ends_at = made.old_accepted_until
            secrets[made.new_version] = secret(made.new_version, made.new_expires_at, created_at=now)

            accepted = [v for v, one in secrets.items() if rotation.is_accepted(one, made.new_version, now)]
            assert accepted in ([made.new_version], [made.old_version, made.new_version])
            assert accepted == [made.new_version] or mode is Mode.GRACE
            old = secrets[made.old_version]
            assert now <= old.accepted_until <= old.expires_at
            assert now < made.new_expires_at <= now + 365 * DAY
            if interval is None:
                assert made.new_expires_at <= NOW + timedelta(days=lifetime_days)
