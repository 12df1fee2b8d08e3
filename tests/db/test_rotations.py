"""Rotations in the database: what a staged one writes, what ends one, and who comes first where several try."""

from datetime import timedelta
from functools import partial

import pytest
from django.utils import timezone

from audit import tenancy
from keys import callers, services
from keys.errors import KeysError, RotationEnded, RotationRunning, SelfRotationRefused, StateForbids
from keys.models import KeySecret, Rotation, RotationTarget
from keys.rotation import NO_END, Mode, State
from keys.secret import Kind
from tests import builders, key_builders
from tests.api.calls import as_superuser, at_once
from tests.db.test_key_guards import refused

HOUR = timedelta(hours=1)
TARGETS = ("us-east-1", "us-west-2", "eu-west-2")


@pytest.fixture
def made(cast):
    return key_builders.create(cast.acme, cast.alice)


def staged(cast, made, **how):
    how = {"mode": Mode.STAGED, "targets": TARGETS, **how}
    return key_builders.rotate(key_builders.read(made.key.id, cast.acme), cast.acme, cast.alice, **how)


def person(cast):
    return callers.of_member(cast.member(cast.alice))


def end(cast, act, rotated):
    with tenancy.within(cast.acme.id):
        found = Rotation.objects.select_related("key__project").get(pk=rotated.rotation.id)
        return act(found, actor=person(cast))


def complete(cast, rotated):
    return end(cast, services.complete_rotation, rotated)


def cancel(cast, rotated):
    return end(cast, services.cancel_rotation, rotated)


def revoke(cast, made):
    with tenancy.within(cast.acme.id):
        services.revoke_key(made.key, actor=person(cast))


def rotation(cast, rotated):
    with tenancy.within(cast.acme.id):
        return Rotation.objects.select_related("key").get(pk=rotated.rotation.id)


def secrets(cast, made):
    with tenancy.within(cast.acme.id):
        found = KeySecret.objects.filter(key=made.key).order_by("version")
        return {one.version: one for one in found}


def codes(cast, *texts):
    return [key_builders.verify(text, cast.acme) for text in texts]


class TestStaged:
    def test_both_are_accepted_without_an_end(self, cast, made):
        with builders.gains(cast.acme.id, "rotation.started") as gained:
            rotated = staged(cast, made)
        assert codes(cast, made.secret, rotated.secret) == ["VALID", "VALID"]
        old = secrets(cast, made)[1]
        assert old.accepted_until == old.expires_at == rotated.rotation.grace_ends_at
        data = gained[0].data
        assert (data["mode"], data["targets"], data["quiet_seconds"]) == ("staged", list(TARGETS), 600)
        with tenancy.within(cast.acme.id):
            found = RotationTarget.objects.filter(rotation=rotated.rotation)
            assert [target.name for target in found] == list(TARGETS)

    def test_of_a_secret_that_never_expires(self, cast):
        made = key_builders.create(
            cast.acme, cast.alice, kind=Kind.INGESTION, scopes=["ingest:write"], expires=None
        )
        rotated = staged(cast, made)
        assert (rotated.rotation.grace_ends_at, rotated.rotation.stops_at) == (NO_END, None)
        assert codes(cast, made.secret, rotated.secret) == ["VALID", "VALID"]

    def test_one_at_a_time(self, cast, made):
        first = staged(cast, made)
        for mode, targets in ((Mode.GRACE, ()), (Mode.STAGED, TARGETS)):
            with pytest.raises(RotationRunning) as caught:
                staged(cast, made, mode=mode, targets=targets)
            assert caught.value.rotation_id == first.rotation.id

    def test_one_of_fifty(self, cast, made):
        def attempt(_):
            key = key_builders.read(made.key.id, cast.acme)
            try:
                return key_builders.rotate(key, cast.acme, cast.alice, mode=Mode.STAGED, targets=TARGETS)
            except KeysError:
                return None

        won = [rotated for rotated in at_once(50, attempt) if rotated]
        assert len(won) == 1
        assert list(secrets(cast, made)) == [1, 2]
        assert codes(cast, won[0].secret) == ["VALID"]


class TestCompleting:
    @pytest.mark.parametrize("mode", [Mode.STAGED, Mode.GRACE])
    def test_the_old_one_stops(self, cast, made, mode):
        rotated = staged(cast, made, mode=mode, targets=TARGETS if mode is Mode.STAGED else ())
        with builders.gains(cast.acme.id, "rotation.completed") as gained:
            found = complete(cast, rotated)
        assert codes(cast, made.secret, rotated.secret) == ["SECRET_RETIRED", "VALID"]
        assert (found.state(timezone.now()), found.completed_by) == (State.COMPLETED, cast.alice.id)
        assert (gained[0].data["rotation"], gained[0].data["how"]) == (found.id, "by_hand")
        assert gained[0].data["target"] == made.key.id

    def test_only_once(self, cast, made):
        rotated = staged(cast, made)
        complete(cast, rotated)
        with builders.gains(cast.acme.id):
            for act in (complete, cancel):
                with pytest.raises(RotationEnded):
                    act(cast, rotated)

    def test_the_next_one_may_begin(self, cast, made):
        complete(cast, staged(cast, made))
        assert staged(cast, made).rotation.new_version == 3


class TestCancelling:
    @pytest.mark.parametrize("mode", [Mode.STAGED, Mode.GRACE])
    def test_the_key_goes_by_the_old_one_again(self, cast, made, mode):
        before = key_builders.read(made.key.id, cast.acme)
        rotated = staged(cast, made, mode=mode, targets=TARGETS if mode is Mode.STAGED else ())
        with builders.gains(cast.acme.id, "rotation.cancelled"):
            found = cancel(cast, rotated)
        assert codes(cast, made.secret, rotated.secret) == ["VALID", "SECRET_RETIRED"]
        after = key_builders.read(made.key.id, cast.acme)
        for name in ("newest_version", "hint", "expires_at"):
            assert getattr(after, name) == getattr(before, name) == getattr(found.key, name)
        both = secrets(cast, made)
        assert both[1].accepted_until is None
        assert both[2].accepted_until == found.cancelled_at
        told = key_builders.judged(made.secret, cast.acme).known.row
        assert (told.version, told.newest_version, told.accepted_until) == (1, 1, None)

    def test_no_version_is_used_twice(self, cast, made):
        first = staged(cast, made)
        cancel(cast, first)
        second = staged(cast, made)
        assert (second.rotation.old_version, second.rotation.new_version) == (1, 3)
        assert codes(cast, made.secret, first.secret, second.secret) == ["VALID", "SECRET_RETIRED", "VALID"]
        cancel(cast, second)
        third = staged(cast, made, mode=Mode.IMMEDIATE, targets=())
        assert third.rotation.new_version == 4
        texts = (made.secret, first.secret, second.secret, third.secret)
        assert codes(cast, *texts) == ["SECRET_RETIRED"] * 3 + ["VALID"]

    def test_it_gives_no_time_that_was_taken(self, cast, made):
        """Whoever shortened the key's life while it rotated meant the key."""
        rotated = staged(cast, made)
        soon = timezone.now() + HOUR
        with tenancy.within(cast.acme.id):
            services.change_key(made.key, services.Changes(expires=soon), actor=person(cast))
        cancel(cast, rotated)
        assert secrets(cast, made)[1].expires_at == soon
        assert key_builders.read(made.key.id, cast.acme).expires_at == soon

    def test_not_once_the_old_one_is_refused(self, cast, made):
        rotated = staged(cast, made)
        past = timezone.now() - HOUR
        as_superuser(
            "UPDATE keys_keysecret SET accepted_until = %s, expires_at = %s WHERE key_id = %s AND version = 1",
            past,
            past,
            made.key.id,
        )
        with builders.gains(cast.acme.id), pytest.raises(StateForbids):
            cancel(cast, rotated)

    def test_not_of_a_revoked_key(self, cast, made):
        rotated = staged(cast, made)
        revoke(cast, made)
        assert rotation(cast, rotated).state(timezone.now()) is State.SUPERSEDED
        with builders.gains(cast.acme.id):
            for act in (cancel, complete):
                with pytest.raises(RotationEnded):
                    act(cast, rotated)
        assert codes(cast, made.secret, rotated.secret) == ["REVOKED", "REVOKED"]


class TestImmediate:
    def test_it_supersedes_and_every_earlier_secret_dies(self, cast, made):
        first = staged(cast, made)
        with builders.gains(cast.acme.id, "rotation.superseded", "rotation.started"):
            second = staged(cast, made, mode=Mode.IMMEDIATE, targets=())
        texts = (made.secret, first.secret, second.secret)
        assert codes(cast, *texts) == ["SECRET_RETIRED", "SECRET_RETIRED", "VALID"]
        assert rotation(cast, first).state(timezone.now()) is State.SUPERSEDED
        assert rotation(cast, second).state(timezone.now()) is State.COMPLETED
        with pytest.raises(RotationEnded):
            cancel(cast, first)


class TestItself:
    """The key that rotates itself, with either of its secrets."""

    def act(self, cast, made, rotated, text):
        presented = callers.Presented(
            key=rotated.key,
            version=1 if text == made.secret else 2,
            project=rotated.key.project,
            mode="live",
            scopes=(),
            is_operator=False,
        )
        return callers.of_key(presented, ip="", user_agent="", request_id="")

    def test_the_newest_alone(self, cast, made):
        rotated = staged(cast, made)
        with builders.gains(cast.acme.id), tenancy.within(cast.acme.id):
            for service in (services.complete_rotation, services.cancel_rotation):
                with pytest.raises(SelfRotationRefused):
                    service(rotated.rotation, actor=self.act(cast, made, rotated, made.secret))
        with builders.gains(cast.acme.id, "rotation.completed") as gained, tenancy.within(cast.acme.id):
            services.complete_rotation(rotated.rotation, actor=self.act(cast, made, rotated, rotated.secret))
        assert gained[0].actor == made.key.id


class TestRaces:
    def test_of_all_that_would_end_it_one_does(self, cast):
        """Complete, cancel, rotate at once and revoke, at the same moment: the rows tell of one end alone."""
        for _ in range(6):
            made = key_builders.create(cast.acme, cast.alice)
            rotated = staged(cast, made)

            acts = [
                partial(complete, cast, rotated),
                partial(cancel, cast, rotated),
                partial(staged, cast, made, mode=Mode.IMMEDIATE, targets=()),
                partial(revoke, cast, made),
            ]

            def attempt(number, acts=acts):
                try:
                    acts[number % 4]()
                except KeysError:
                    return False
                return True

            at_once(8, attempt)
            found = rotation(cast, rotated)
            ends = [found.completed_at, found.cancelled_at, found.superseded_at]
            assert sum(end is not None for end in ends) <= 1
            told = [
                entry.act
                for entry in builders.entries(cast.acme.id)
                if entry.data.get("rotation") == found.id and entry.act != "rotation.started"
            ]
            assert len(told) == sum(end is not None for end in ends)
            assert codes(cast, made.secret, rotated.secret) == ["REVOKED", "REVOKED"]

    def test_complete_against_cancel_leaves_exactly_one_secret(self, cast):
        for _ in range(6):
            made = key_builders.create(cast.acme, cast.alice)
            rotated = staged(cast, made)

            def attempt(number, rotated=rotated):
                try:
                    (complete if number % 2 else cancel)(cast, rotated)
                except RotationEnded:
                    return 0
                return 1

            assert sum(at_once(8, attempt)) == 1
            assert sorted(codes(cast, made.secret, rotated.secret)) == ["SECRET_RETIRED", "VALID"]


class TestGuards:
    def test_a_version_goes_back_through_a_cancel_alone(self, cast, made):
        staged(cast, made)
        sql = "UPDATE keys_apikey SET newest_version = 1 WHERE id = %s"
        assert "grows by one" in refused(cast.acme.id, sql, made.key.id)

    def test_nobody_lifts_an_end_that_no_cancel_lifted(self, cast, made):
        rotated = staged(cast, made)
        lift = "UPDATE keys_keysecret SET accepted_until = NULL WHERE key_id = %s AND version = %s"
        assert "only ends sooner" in refused(cast.acme.id, lift, made.key.id, 1)
        complete(cast, rotated)
        assert "only ends sooner" in refused(cast.acme.id, lift, made.key.id, 1)
        second = staged(cast, made)
        cancel(cast, second)
        for version in (1, 3):
            assert "only ends sooner" in refused(cast.acme.id, lift, made.key.id, version)

    def test_the_end_of_a_rotation_is_written_once(self, cast, made):
        rotated = staged(cast, made)
        complete(cast, rotated)
        for change in (
            "completed_at = now()",
            "completed_at = NULL",
            "cancelled_at = now()",
            "superseded_at = now()",
        ):
            sql = f"UPDATE keys_rotation SET {change} WHERE id = %s"
            assert "has ended" in refused(cast.acme.id, sql, rotated.rotation.id)

    @pytest.mark.parametrize(
        "change", ["grace_ends_at = now()", "new_version = 9", "mode = 'grace'", "deadline = now()"]
    )
    def test_the_rest_of_it_is_nobodys(self, cast, made, change):
        rotated = staged(cast, made)
        sql = f"UPDATE keys_rotation SET {change} WHERE id = %s"
        assert "permission denied" in refused(cast.acme.id, sql, rotated.rotation.id)

    @pytest.mark.parametrize("table", ["keys_rotationseen", "keys_rotationuse", "keys_rotationtarget"])
    def test_evidence_is_not_the_applications_to_write(self, cast, table):
        assert "permission denied" in refused(cast.acme.id, f"DELETE FROM {table}")
        assert "permission denied" in refused(cast.acme.id, f"UPDATE {table} SET name = 'x'")

    def test_a_stranger_sees_nothing_of_it(self, cast, made):
        rotated = staged(cast, made)
        with tenancy.within(cast.elsewhere.id):
            assert not Rotation.objects.filter(pk=rotated.rotation.id).exists()
            assert not RotationTarget.objects.filter(rotation_id=rotated.rotation.id).exists()

    def test_a_rotation_ends_with_its_old_secret(self, cast, made):
        """Whoever ends the old secret's acceptance ends the rotation: nothing comes back then."""
        rotated = staged(cast, made)
        with tenancy.within(cast.acme.id):
            KeySecret.objects.filter(key=made.key, version=1).update(accepted_until=timezone.now())
        assert rotation(cast, rotated).state(timezone.now()) is State.COMPLETED
        with pytest.raises(RotationEnded):
            cancel(cast, rotated)
