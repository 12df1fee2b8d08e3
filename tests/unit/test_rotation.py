from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import rotation
from keys.errors import (
    Invalid,
    RotationEnded,
    RotationRunning,
    SelfRotationRefused,
    StateForbids,
    VersionConflict,
)
from keys.policy import DEFAULTS, ExpiryRule
from keys.rotation import (
    NO_END,
    Course,
    Itself,
    Mode,
    Secret,
    Seen,
    Standing,
    State,
    TargetState,
    Watch,
    Wish,
)
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


def plan(standing=None, mode=Mode.GRACE, grace_seconds=None, version=None, itself=None, now=NOW, **more):
    if mode is Mode.STAGED:
        more.setdefault("targets", ["eu"])
    wish = Wish(mode=mode, grace_seconds=grace_seconds, **more)
    return rotation.plan(standing or key(), wish, version=version, itself=itself, now=now)


def staged(standing=None, **more):
    return plan(standing, Mode.STAGED, **more)


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


class TestStaged:
    def test_the_old_one_has_no_end_but_its_own(self):
        made = staged()
        assert made.old_accepted_until == NOW + 60 * DAY
        assert staged(key(secret(expires_at=None))).old_accepted_until == NO_END
        assert (made.stages.targets, made.stages.quiet_seconds) == (("eu",), 600)
        assert made.stages.deadline == NOW + 7 * DAY

    def test_it_is_cut_off_at_the_deadline_where_the_policy_says_so(self):
        deadline = NOW + DAY
        assert staged(key(is_cut_off=True), deadline=deadline).old_accepted_until == deadline
        soon = key(secret(expires_at=NOW + TICK), is_cut_off=True)
        assert staged(soon, deadline=deadline).old_accepted_until == NOW + TICK
        assert plan(key(is_cut_off=True)).old_accepted_until == NOW + DAY

    @pytest.mark.parametrize("deadline", [NOW + TICK, NOW + 30 * DAY])
    @pytest.mark.parametrize("quiet", [1, 86_400])
    def test_bounds(self, deadline, quiet):
        made = staged(deadline=deadline, quiet_seconds=quiet).stages
        assert (made.deadline, made.quiet_seconds) == (deadline, quiet)

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"targets": []}, "targets"),
            ({"targets": [str(number) for number in range(65)]}, "targets"),
            ({"targets": ["eu", ""]}, "targets[1]"),
            ({"targets": ["é" * 33]}, "targets[0]"),
            ({"targets": ["eu", "us", "eu"]}, "targets[2]"),
            ({"targets": [" eu"]}, "targets[0]"),
            ({"targets": ["e\nu"]}, "targets[0]"),
            ({"targets": ["e\x00u"]}, "targets[0]"),
            ({"targets": ["\ud800"]}, "targets[0]"),
            ({"targets": ["ks_cp_live_" + "A" * 49]}, "targets[0]"),
            ({"quiet_seconds": 0}, "quiet_seconds"),
            ({"quiet_seconds": 86_401}, "quiet_seconds"),
            ({"deadline": NOW}, "deadline"),
            ({"deadline": NOW + 30 * DAY + TICK}, "deadline"),
            ({"grace_seconds": 60}, "grace_seconds"),
        ],
    )
    def test_out_of_bounds(self, wrong, field):
        with pytest.raises(Invalid) as caught:
            staged(**wrong)
        assert caught.value.field == field

    def test_64_targets_of_64_bytes(self):
        names = [f"{number:02}" + "é" * 31 for number in range(64)]
        assert staged(targets=names).stages.targets == tuple(names)

    @pytest.mark.parametrize("mode", [Mode.GRACE, Mode.IMMEDIATE])
    @pytest.mark.parametrize(
        ("name", "value"), [("targets", ["eu"]), ("quiet_seconds", 600), ("deadline", NOW + DAY)]
    )
    def test_the_others_have_nothing_of_it(self, mode, name, value):
        with pytest.raises(Invalid) as caught:
            plan(mode=mode, **{name: value})
        assert caught.value.field == name

    def test_one_at_a_time(self):
        with pytest.raises(RotationRunning):
            staged(key(running_id="rot_1"))

    def test_by_the_key_itself(self):
        assert staged(itself=itself()).mode is Mode.STAGED


class TestOverdue:
    @pytest.mark.parametrize(
        ("course", "deadline", "expected"),
        [
            (Course(ends_at=NO_END), NOW, True),
            (Course(ends_at=NO_END), NOW + TICK, False),
            (Course(ends_at=NO_END), None, False),
            (Course(ends_at=NOW), NOW, False),
            (Course(ends_at=NO_END, completed_at=NOW), NOW - DAY, False),
        ],
    )
    def test_only_what_runs(self, course, deadline, expected):
        assert rotation.is_overdue(course, deadline, NOW) is expected


QUIET = timedelta(seconds=600)
WATCH = Watch(since=NOW - DAY, quiet_seconds=600)


class TestTargets:
    @pytest.mark.parametrize(
        ("seen", "expected"),
        [
            (Seen(old_at=None, new_at=None), TargetState.WAITING),
            (Seen(old_at=NOW, new_at=None), TargetState.WAITING),
            (Seen(old_at=NOW - DAY, new_at=None), TargetState.WAITING),
            (Seen(old_at=NOW, new_at=NOW), TargetState.MOVING),
            (Seen(old_at=NOW - QUIET + TICK, new_at=NOW), TargetState.MOVING),
            (Seen(old_at=NOW - QUIET, new_at=NOW), TargetState.MOVED),
            (Seen(old_at=None, new_at=NOW), TargetState.MOVED),
            (Seen(old_at=NOW + DAY, new_at=NOW), TargetState.MOVING),
        ],
    )
    def test_state(self, seen, expected):
        assert WATCH.state(seen, NOW) is expected

    def test_silence_counts_from_the_start(self):
        """A secret that was idle before must not end a rotation that has just begun."""
        fresh = Watch(since=NOW - QUIET + TICK, quiet_seconds=600)
        assert fresh.state(Seen(old_at=NOW - DAY, new_at=NOW), NOW) is TargetState.MOVING
        assert not fresh.is_complete([Seen(old_at=None, new_at=NOW)], None, NOW)

    def test_complete(self):
        moved, moving = Seen(old_at=None, new_at=NOW), Seen(old_at=NOW, new_at=NOW)
        assert WATCH.is_complete([moved, moved], NOW - QUIET, NOW)
        assert WATCH.is_complete([moved], None, NOW)
        assert not WATCH.is_complete([moved, moving], NOW - QUIET, NOW)
        assert not WATCH.is_complete([moved], NOW - QUIET + TICK, NOW)
        assert not WATCH.is_complete([], None, NOW)

    @bounded
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["eu", "us", ""]),
                st.booleans(),
                st.timedeltas(timedelta(), timedelta(hours=2)),
            ),
            max_size=12,
        ),
        st.integers(1, 7_200),
    )
    def test_never_while_anybody_still_calls(self, uses, quiet):
        """Play calls one after the other; whenever it would complete, the old secret was silent for long enough."""
        now, old, places = NOW, None, {name: Seen(old_at=None, new_at=None) for name in ("eu", "us")}
        watch = Watch(since=NOW, quiet_seconds=quiet)
        for name, is_new, pause in uses:
            now += pause
            if watch.is_complete(places.values(), old, now):
                assert all(seen.new_at is not None for seen in places.values())
                assert now - (old or NOW) >= timedelta(seconds=quiet)
            if not is_new:
                old = now
            if name in places:
                places[name] = replace(places[name], **{"new_at" if is_new else "old_at": now})
            assert is_new or not watch.is_complete(places.values(), old, now)


class TestCancelling:
    RUNNING = Course(ends_at=NOW + DAY)

    def expiry(self, old, new, course=RUNNING):
        return rotation.restored_expiry(course, secret(expires_at=old), secret(2, expires_at=new), NOW)

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (NOW + DAY, NOW + 9 * DAY, NOW + DAY),
            (NOW + 9 * DAY, NOW + DAY, NOW + DAY),
            (None, NOW + DAY, NOW + DAY),
            (NOW + DAY, None, NOW + DAY),
            (None, None, None),
        ],
    )
    def test_never_gives_more_time(self, old, new, expected):
        assert self.expiry(old, new) == expected

    def test_not_where_nothing_is_left(self):
        for old, new in ((NOW, None), (NOW + DAY, NOW)):
            with pytest.raises(StateForbids):
                self.expiry(old, new)

    @pytest.mark.parametrize(
        "course",
        [
            Course(ends_at=NOW),
            Course(ends_at=NO_END, completed_at=NOW),
            Course(ends_at=NO_END, cancelled_at=NOW),
            Course(ends_at=NO_END, superseded_at=NOW),
        ],
    )
    def test_not_once_it_has_ended(self, course):
        with pytest.raises(RotationEnded):
            self.expiry(None, None, course)


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
            assert accepted == [made.new_version] or mode is not Mode.IMMEDIATE
            old = secrets[made.old_version]
            assert now <= old.accepted_until <= old.expires_at
            assert now < made.new_expires_at <= now + 365 * DAY
            if interval is None:
                assert made.new_expires_at <= NOW + timedelta(days=lifetime_days)


class TestKnownEnd:
    def test_no_end_is_told_as_none(self):
        """A client must not take the year 9999 for a date."""
        assert rotation.known_end(rotation.NO_END) is None
        assert rotation.known_end(None) is None
        assert rotation.known_end(NOW) == NOW
