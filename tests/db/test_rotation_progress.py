"""How far rotations have come: what counts as use, when a target has moved, and what the worker writes, once."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import psycopg
import pytest
from django.db import connection
from django.utils import timezone

from audit import tenancy
from audit.actors import Actor
from keys import callers, progress, services
from keys.models import KeyPolicy, Rotation, RotationTarget
from keys.rotation import Mode, State, TargetState
from keys.scopes import parse_query
from keys.tasks import rotations
from keys.usage import rolling
from orgs import services as org_services
from tests import builders, cluster, key_builders, usage_builders
from tests.api.calls import as_superuser, at_once, rows

QUIET = 600
WORKER = Actor.system("worker")


class Turn:
    """A staged rotation of two targets, with a hand on its clock."""

    def __init__(self, cast, **how):
        self.cast = cast
        self.made = key_builders.create(cast.acme, cast.alice)
        how = {"mode": Mode.STAGED, "targets": ["eu", "us"], **how}
        self.rotated = key_builders.rotate(self.made.key, cast.acme, cast.alice, **how)
        self.id = self.rotated.rotation.id

    def use(self, version, region, where=None, **asked):
        text = self.made.secret if version == 1 else self.rotated.secret
        return key_builders.judged(text, where or self.cast.acme, region=region, **asked).verdict.code

    def move(self, *regions):
        for region in regions:
            assert self.use(2, region) == "VALID"

    def pass_time(self, seconds):
        """Let everything about it have happened so much earlier."""
        usage_builders.rolled_up()
        for table, columns, which in (
            ("rotation", ("started_at", "held_at", "deadline"), "id"),
            ("rotationseen", ("old_last_used_at", "new_last_used_at"), "rotation_id"),
            ("rotationuse", ("last_at",), "rotation_id"),
        ):
            shifted = ", ".join(f"{name} = {name} - make_interval(secs => {seconds})" for name in columns)
            as_superuser(f"UPDATE keys_{table} SET {shifted} WHERE {which} = %s", self.id)
        as_superuser(
            "UPDATE keys_secretuse SET last_used_at = last_used_at - make_interval(secs => %s) WHERE key_id = %s",
            seconds,
            self.made.key.id,
        )

    def read(self, **how):
        with tenancy.within(self.cast.acme.id):
            return progress.of(self.row(), timezone.now(), **how)

    def row(self):
        with tenancy.within(self.cast.acme.id):
            return Rotation.objects.select_related("key").get(pk=self.id)

    def states(self):
        return {target.name: target.state for target in self.read().targets}

    def advance(self):
        usage_builders.rolled_up()
        with tenancy.within(self.cast.acme.id):
            return services.advance_rotation(self.id, actor=WORKER)

    def told(self):
        found = [
            entry for entry in builders.entries(self.cast.acme.id) if entry.data.get("rotation") == self.id
        ]
        return [entry.act for entry in found][1:]


@pytest.fixture
def turn(cast):
    return Turn(cast)


@pytest.fixture(params=["folded", "fresh"])
def fold(request):
    """Read evidence that is folded, and evidence that is not yet: pages know no difference."""
    usage_builders.rolled_up()
    return usage_builders.rolled_up if request.param == "folded" else lambda: None


class TestWhatCounts:
    def test_a_call_that_a_long_transaction_keeps_from_being_folded(self, turn):
        usage_builders.rolled_up()
        with psycopg.connect(cluster.cluster().url(dbname=cluster.database())) as blocker:
            blocker.execute("SELECT pg_current_xact_id()")
            rolling.roll_up()
            turn.use(1, "eu")
            as_superuser("UPDATE keys_usagemark SET rolled_at = rolled_at - interval '6 minutes'")
            as_superuser(
                "UPDATE keys_call SET at = at - interval '5 minutes' WHERE key_id = %s", turn.made.key.id
            )
            rolling.roll_up()
            assert turn.read().targets[0].old_calls == 1

    def test_a_call_in_a_target(self, turn, fold):
        turn.use(1, "eu")
        turn.use(2, "eu", ip="203.0.113.9")
        turn.use(2, "us")
        turn.use(2, "us")
        fold()
        eu, us = turn.read().targets
        assert (eu.old_calls, eu.new_calls, us.old_calls, us.new_calls) == (1, 1, 0, 2)
        assert None not in {eu.seen.old_at, eu.seen.new_at, us.seen.new_at}
        assert us.seen.old_at is None
        assert turn.states() == {"eu": TargetState.MOVING, "us": TargetState.MOVING}

    @pytest.mark.parametrize("region", ["", "ap-south-1", "EU", "eu "])
    def test_a_call_outside_every_target(self, turn, fold, region):
        turn.use(1, region)
        fold()
        found = turn.read()
        assert [target.old_calls for target in found.targets] == [0, 0]
        assert found.elsewhere.old_calls == 1
        assert found.elsewhere.seen.old_at == found.old_at is not None

    def test_not_what_is_refused(self, turn, fold):
        assert (
            turn.use(1, "eu", ip="203.0.113.9", query=parse_query("admin:projects")) == "INSUFFICIENT_SCOPE"
        )
        fold()
        found = turn.read()
        assert (found.old_calls, found.old_at, found.targets[0].seen.old_at) == (0, None, None)

    def test_not_what_only_looks(self, turn, fold):
        assert turn.use(2, "eu", cost=0) == turn.use(1, "eu", cost=0) == "VALID"
        fold()
        assert turn.read().old_calls == 0
        assert turn.states()["eu"] is TargetState.WAITING

    def test_not_another_organizations_verifier(self, turn, fold):
        assert turn.use(2, "eu", turn.cast.elsewhere) == "NOT_FOUND"
        fold()
        assert turn.states()["eu"] is TargetState.WAITING

    def test_nothing_twice(self, turn):
        turn.use(1, "eu")
        for _ in range(3):
            usage_builders.rolled_up()
            assert turn.read().targets[0].old_calls == 1

    def test_an_hour_of_them(self, turn):
        key = turn.made.key
        for minutes, calls in ((5, 3), (59, 4), (70, 100)):
            at = usage_builders.ago(minutes=minutes)
            usage_builders.call(key, region="eu", at=at, calls=calls)
        usage_builders.rolled_up()
        found = turn.read(has_sources=True)
        assert found.targets[0].old_calls == 7
        assert found.sources[0].calls == 7

    def test_what_was_before_it_began(self, cast):
        made = key_builders.create(cast.acme, cast.alice)
        usage_builders.call(made.key, region="eu", at=usage_builders.ago(minutes=3), calls=5)
        usage_builders.call(made.key, region="eu", at=usage_builders.ago(days=3), calls=7)
        usage_builders.call(made.key, region="us", at=usage_builders.ago(days=3), code="DISABLED")
        usage_builders.rolled_up()
        rotated = key_builders.rotate(made.key, cast.acme, cast.alice, mode=Mode.STAGED, targets=["eu", "us"])
        with tenancy.within(cast.acme.id):
            eu, us = progress.of(rotated.rotation, timezone.now()).targets
        assert eu.old_calls == 5
        assert timezone.now() - eu.seen.old_at < timedelta(minutes=4)
        assert us.seen.old_at is None

    def test_who_still_uses_the_old_one(self, turn, fold):
        key = turn.made.key
        for ip, agent, calls in (("198.51.100.7", "a/1", 9), ("198.51.100.7", "b/2", 2), (None, "a/1", 1)):
            usage_builders.call(key, region="eu", ip=ip, user_agent=agent, calls=calls)
        usage_builders.call(key, region="eu", version=2, calls=50)
        fold()
        found = turn.read(has_sources=True)
        shown = [(source.ip, source.user_agent, source.target, source.calls) for source in found.sources]
        assert shown == [
            ("198.51.100.7", "a/1", "eu", 9),
            ("198.51.100.7", "b/2", "eu", 2),
            (None, "a/1", "eu", 1),
        ]
        assert found.breaking_addresses == 1

    def test_who_would_fail(self, turn):
        for region in ("eu", "us", "mars"):
            turn.use(1, region, ip="198.51.100.7")
        turn.move("eu")
        assert [target.name for target in turn.read(has_sources=True).breaking] == ["eu", "us"]
        assert turn.read().breaking_calls == 3
        turn.pass_time(QUIET)
        found = turn.read(has_sources=True)
        assert [target.name for target in found.breaking] == ["us"]
        assert (found.breaking_calls, found.breaking_addresses) == (1, 1)
        turn.use(1, "mars", ip="198.51.100.9")
        found = turn.read(has_sources=True)
        assert (found.breaking_calls, found.breaking_addresses) == (3, 2)

    def test_more_sources_than_are_told_apart(self, turn):
        at = usage_builders.ago(seconds=90)
        usage_builders.calls(
            turn.made.key,
            [{"region": "eu", "ip": f"198.51.{n // 250}.{n % 250}", "at": at} for n in range(450)],
        )
        for _ in range(2):
            usage_builders.rolled_up()
            usage_builders.calls(turn.made.key, [{"region": "us", "ip": "192.0.2.77", "at": at}])
        usage_builders.rolled_up()
        kept = rows("SELECT count(*) FROM keys_rotationuse WHERE rotation_id = %s AND NOT is_other", turn.id)
        assert kept == [(200,)]
        found = turn.read(has_sources=True)
        assert found.old_calls == 452
        assert any(source.is_other and source.calls == 250 for source in found.sources)
        assert len(found.sources) == 202

    def test_a_grace_is_watched_too(self, cast, fold):
        turn = Turn(cast, mode=Mode.GRACE, targets=[])
        turn.use(1, "eu")
        fold()
        found = turn.read(has_sources=True)
        assert (found.targets, found.elsewhere.old_calls, len(found.sources)) == ([], 1, 1)
        assert found.elsewhere.seen.old_at == found.old_at is not None
        assert not found.is_complete

    def test_retention_takes_no_evidence(self, turn):
        turn.use(1, "eu")
        turn.move("eu")
        usage_builders.rolled_up()
        before = turn.read().targets[0].seen
        as_superuser("DELETE FROM keys_call WHERE key_id = %s", turn.made.key.id)
        assert turn.read().targets[0].seen == before

    def test_another_tenant_reads_none_of_it(self, turn):
        turn.use(1, "eu")
        usage_builders.rolled_up()
        with tenancy.within(turn.cast.elsewhere.id):
            for table in ("keys_rotationseen", "keys_rotationuse", "keys_rotationtarget"):
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT count(*) FROM {table} WHERE rotation_id = %s", [turn.id])
                    assert cursor.fetchone() == (0,)

    def test_what_is_older_than_an_hour_goes(self, turn):
        turn.use(1, "eu")
        usage_builders.rolled_up()
        as_superuser(
            "UPDATE keys_rotationuse SET minute = minute - interval '2 hours' WHERE rotation_id = %s", turn.id
        )
        turn.use(1, "eu")
        usage_builders.rolled_up()
        assert rows("SELECT count(*) FROM keys_rotationuse WHERE rotation_id = %s", turn.id) == [(1,)]


class TestAdvancing:
    def test_it_completes_by_itself(self, turn):
        turn.use(1, "eu")
        turn.move("eu", "us")
        assert turn.advance() == 0
        turn.pass_time(QUIET)
        assert turn.states() == {"eu": TargetState.MOVED, "us": TargetState.MOVED}
        assert turn.advance() == 3
        assert turn.told() == ["rotation.target_moved", "rotation.target_moved", "rotation.completed"]
        entry = builders.entries(turn.cast.acme.id)[-1]
        assert (entry.actor, entry.data["how"]) == ("sys_worker", "all_moved")
        assert turn.row().state(timezone.now()) is State.COMPLETED
        assert (turn.use(1, "eu"), turn.use(2, "eu")) == ("SECRET_RETIRED", "VALID")
        assert turn.advance() == 0

    def test_a_target_is_told_of_once(self, turn):
        turn.move("eu")
        turn.pass_time(QUIET)
        assert turn.advance() == 1
        turn.use(1, "eu")
        assert turn.states()["eu"] is TargetState.MOVING
        turn.pass_time(QUIET)
        assert turn.states()["eu"] is TargetState.MOVED
        assert turn.advance() == 0
        assert turn.told() == ["rotation.target_moved"]
        with tenancy.within(turn.cast.acme.id):
            moved = RotationTarget.objects.filter(rotation_id=turn.id, moved_at__isnull=False)
            assert [target.name for target in moved] == ["eu"]

    @pytest.mark.parametrize("region", ["", "ap-south-1"])
    def test_not_while_it_is_used_outside(self, turn, region):
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        turn.use(1, region)
        assert turn.advance() == 2
        assert turn.told() == ["rotation.target_moved"] * 2
        assert turn.row().is_running(timezone.now())
        turn.pass_time(QUIET)
        assert turn.advance() == 1

    def test_not_while_a_target_waits(self, turn):
        turn.move("eu")
        turn.pass_time(QUIET * 10)
        assert turn.advance() == 1
        assert turn.row().is_running(timezone.now())

    def test_not_before_the_quiet_time_has_passed_at_all(self, turn):
        turn.move("eu", "us")
        assert turn.advance() == 0
        turn.pass_time(QUIET - 30)
        assert turn.advance() == 0

    def test_what_came_after_the_question_counts(self, turn, monkeypatch):
        """The old secret is used between reading the evidence and completing: the statement itself sees it."""
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        reached = turn.read()
        assert reached.is_complete
        turn.use(1, "eu")
        monkeypatch.setattr("keys.services.advancing.progress.of", lambda *_: reached)
        assert turn.advance() == 2
        assert turn.row().is_running(timezone.now())

    def test_a_disabled_key_is_not_silent_of_its_own(self, turn):
        turn.use(1, "eu")
        turn.move("eu", "us")
        actor = callers.of_member(turn.cast.member(turn.cast.alice))
        with tenancy.within(turn.cast.acme.id):
            services.disable_key(turn.made.key, actor=actor)
        turn.pass_time(QUIET)
        assert turn.advance() == 0
        with tenancy.within(turn.cast.acme.id):
            services.enable_key(turn.made.key, actor=actor)
        assert turn.advance() == 0
        assert turn.states()["eu"] is TargetState.MOVING
        turn.pass_time(QUIET)
        assert turn.advance() == 3

    def test_nor_one_that_was_disabled_for_a_while(self, turn):
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        as_superuser(
            "UPDATE keys_apikey SET disabled_until = now() - interval '1 second' WHERE id = %s",
            turn.made.key.id,
        )
        assert turn.advance() == 0

    def test_nor_one_of_a_suspended_organization(self):
        cast = builders.cast()
        turn = Turn(cast)
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        org_services.suspend_organization(cast.acme, actor=builders.OPERATOR)
        rotations.advance_rotations(0)
        assert turn.told() == []
        org_services.resume_organization(cast.acme, actor=builders.OPERATOR)
        rotations.advance_rotations(0)
        assert turn.told() == []

    @pytest.mark.usefixtures("cast")
    def test_nor_one_that_was_suspended_while_no_worker_ran(self):
        cast = builders.cast()
        turn = Turn(cast)
        turn.move("eu", "us")
        assert turn.use(1, "us") == "VALID"
        org_services.suspend_organization(cast.acme, actor=builders.OPERATOR)
        turn.pass_time(QUIET)
        org_services.resume_organization(cast.acme, actor=builders.OPERATOR)
        assert turn.advance() == 0
        assert turn.use(1, "us") == "VALID"

    def test_overdue_once(self, turn):
        turn.move("eu")
        turn.pass_time(8 * 86_400)
        assert turn.row().is_overdue(timezone.now())
        assert turn.advance() == 2
        assert turn.advance() == 0
        assert turn.told() == ["rotation.target_moved", "rotation.overdue"]
        assert builders.entries(turn.cast.acme.id)[-1].data["left"] == ["us"]
        assert turn.use(1, "us") == "VALID"
        turn.move("us")
        turn.pass_time(QUIET)
        assert turn.advance() == 2
        assert turn.row().state(timezone.now()) is State.COMPLETED

    def test_a_grace_that_ended_is_told_of_once(self, cast):
        turn = Turn(cast, mode=Mode.GRACE, targets=[])
        assert turn.advance() == 0
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE id = %s", turn.id)
        assert turn.row().state(timezone.now()) is State.COMPLETED
        assert turn.told() == []
        assert turn.advance() == 1
        assert turn.advance() == 0
        assert turn.told() == ["rotation.completed"]
        assert turn.row().completed_at == turn.row().grace_ends_at

    def test_the_next_rotation_tells_of_it_where_no_worker_did(self, cast):
        turn = Turn(cast, mode=Mode.GRACE, targets=[])
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE id = %s", turn.id)
        with builders.gains(cast.acme.id, "rotation.completed", "rotation.started") as gained:
            key_builders.rotate(key_builders.read(turn.made.key.id, cast.acme), cast.acme, cast.alice)
        assert gained[0].actor == "sys_worker"

    def test_an_old_secret_that_expired(self, cast):
        turn = Turn(cast)
        as_superuser("UPDATE keys_rotation SET grace_ends_at = now() WHERE id = %s", turn.id)
        assert turn.advance() == 1
        assert builders.entries(cast.acme.id)[-1].data["how"] == "old_secret_expired"

    def test_the_policy_cuts_off(self, cast):
        with tenancy.within(cast.elsewhere.id):
            KeyPolicy.objects.create(organization=cast.elsewhere, staged_cut_off_at_deadline=True)
        made = key_builders.create(cast.elsewhere, cast.mallory)
        rotated = key_builders.rotate(
            made.key, cast.elsewhere, cast.mallory, mode=Mode.STAGED, targets=["eu"]
        )
        assert rotated.rotation.grace_ends_at == rotated.rotation.deadline
        as_superuser(
            "UPDATE keys_rotation SET grace_ends_at = now(), deadline = now() WHERE id = %s",
            rotated.rotation.id,
        )
        with tenancy.within(cast.elsewhere.id):
            assert services.advance_rotation(rotated.rotation.id, actor=WORKER) == 1
        assert builders.entries(cast.elsewhere.id)[-1].data["how"] == "cut_off_at_deadline"

    def test_a_revoked_key_is_left_alone(self, turn):
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        with tenancy.within(turn.cast.acme.id):
            services.revoke_key(turn.made.key, actor=callers.of_member(turn.cast.member(turn.cast.alice)))
        assert turn.advance() == 0


class TestTheJob:
    def test_two_workers_at_once_write_nothing_twice(self, cast):
        turns = [Turn(cast) for _ in range(3)]
        for turn in turns:
            turn.move("eu", "us")
            turn.pass_time(QUIET)
        usage_builders.rolled_up()
        at_once(6, lambda _: rotations.advance_rotations(0))
        expected = ["rotation.target_moved", "rotation.target_moved", "rotation.completed"]
        assert [turn.told() for turn in turns] == [expected] * 3

    def test_one_that_fails_stops_no_other(self, cast, monkeypatch):
        turns = [Turn(cast) for _ in range(3)]
        for turn in turns:
            turn.move("eu", "us")
            turn.pass_time(QUIET)
        poisoned = min(turns, key=lambda turn: turn.id)
        real = services.advance_rotation

        def fails(rotation_id, *, actor):
            if rotation_id == poisoned.id:
                raise RuntimeError("poisoned")
            return real(rotation_id, actor=actor)

        monkeypatch.setattr(services, "advance_rotation", fails)
        rotations.advance_rotations(0)
        assert {turn.id: len(turn.told()) for turn in turns} == {
            turn.id: 0 if turn is poisoned else 3 for turn in turns
        }

    def test_killed_half_done_it_leaves_nothing_half(self, turn):
        """SIGKILL after the targets and the end are written, before the commit."""
        turn.move("eu", "us")
        turn.pass_time(QUIET)
        usage_builders.rolled_up()
        child = subprocess.run(
            [sys.executable, "-c", KILLED, turn.cast.acme.id, turn.id],
            check=False,
            capture_output=True,
            timeout=60,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "portal.settings"},
        )
        assert child.returncode == -signal.SIGKILL, child.stderr.decode()
        assert turn.told() == []
        assert turn.row().is_running(timezone.now())
        assert turn.use(1, "nowhere") == "VALID"
        turn.pass_time(QUIET)
        rotations.advance_rotations(0)
        assert turn.told() == ["rotation.target_moved", "rotation.target_moved", "rotation.completed"]

    def test_it_finds_only_what_is_due(self, cast):
        waiting, moved = Turn(cast), Turn(cast)
        moved.move("eu")
        moved.pass_time(QUIET)
        usage_builders.rolled_up()
        found = rotations.due()
        assert moved.id in found
        assert waiting.id not in found


KILLED = """
import os, signal, sys
import django
django.setup()
from audit import ledger, tenancy
from audit.actors import Actor
from keys import services
ledger._append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with tenancy.within(sys.argv[1]):
    services.advance_rotation(sys.argv[2], actor=Actor.system("worker"))
"""
