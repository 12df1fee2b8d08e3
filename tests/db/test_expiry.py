"""Coming ends are told at the thresholds, ends when they came: each once, whatever happens meanwhile."""

import threading
from datetime import timedelta

import psycopg
import pytest
from django.db import connection, connections

from audit import tenancy
from keys import callers, clock, looking, services
from keys.models import KeyDue, Notice
from keys.models.notice import What
from keys.rotation import Mode
from keys.secret import Kind
from keys.services import Changes, Owner
from keys.services.common import policy_of
from keys.tasks import expiry
from tests import builders, cluster, key_builders
from tests.clocks import later

EXPIRING, EXPIRED = "key.expiring", "key.expired"


@pytest.fixture
def where(cast):
    """Make an organization of one's own, so that only its keys are due."""
    return builders.organization("Fresh", owner=cast.alice)


def make(where, cast, days=90, **fields):
    expires = clock.now() + timedelta(days=days)
    return key_builders.create(where, cast.alice, expires=expires, **fields).key


def work(where, what=What.EXPIRY):
    """Look at what is due in one organization, as the job does."""
    found = looking.due_keys(what, clock.now(), limit=100_000).get(where.id, [])
    return services.tell_of_expiry(where.id, found) if found else 0


def told(where, *acts):
    """Return what the ledger says of ends: (act, name, days left)."""
    wanted = acts or (EXPIRING, EXPIRED)
    return [
        (entry["act"], entry["data"]["target"], entry["data"].get("days_left"))
        for entry in key_builders.entries(where)
        if entry["act"] in wanted
    ]


def change(key, where, by, **changes):
    with tenancy.within(where.id):
        caller = callers.of_member(builders.member(by, where))
        return services.change_key(key_builders.read(key.id, where), Changes(**changes), actor=caller)


class TestThresholds:
    def test_each_is_told_once_with_the_facts_and_then_the_end(self, where, cast):
        key = make(where, cast, owner=Owner(member=cast.alice))
        for days in (0, 59, 61, 61.5, 82, 84, 89.5, 89.9, 91, 100):
            with later(days=days):
                work(where)
                work(where)
        assert told(where) == [
            (EXPIRING, key.id, 29),
            (EXPIRING, key.id, 6),
            (EXPIRING, key.id, 1),
            (EXPIRED, key.id, None),
        ]
        entry = next(entry for entry in key_builders.entries(where) if entry["act"] == EXPIRING)
        data = entry["data"]
        assert entry["actor"] == "sys_worker"
        assert (data["name"], data["owner"], data["version"]) == (key.name, cast.alice.id, 1)
        assert (data["auto_rotate"], data["rotates_at"], data["recipient"]) == (False, None, None)
        assert data["expires_at"].startswith(key.expires_at.strftime("%Y-%m-%dT%H:%M"))
        assert "sealed" not in entry

    def test_a_key_made_with_five_days_to_live_has_the_nearest_alone(self, where, cast):
        key = make(where, cast, days=5)
        work(where)
        assert told(where) == [(EXPIRING, key.id, 5)]
        with tenancy.within(where.id):
            rows = set(Notice.objects.filter(key_id=key.id).values_list("days", "is_told"))
        assert rows == {(30, False), (7, True)}
        with later(days=4.5):
            work(where)
        assert told(where) == [(EXPIRING, key.id, 5), (EXPIRING, key.id, 1)]

    def test_a_worker_that_was_down_says_what_still_matters(self, where, cast):
        far, near = make(where, cast, days=70), make(where, cast, days=45)
        with later(days=31):
            work(where)
        assert told(where) == [(EXPIRING, near.id, 14)]
        with later(days=64):
            work(where)
        assert sorted(told(where)[1:]) == sorted([(EXPIRED, near.id, None), (EXPIRING, far.id, 6)])

    def test_what_never_expires_is_never_spoken_of(self, where, cast):
        key_builders.create(where, cast.alice, kind=Kind.INGESTION, scopes=["ingest:write"], expires=None)
        with later(days=4_000):
            assert work(where) == 0
        assert told(where) == []

    def test_other_thresholds_count_at_once(self, where, cast):
        key = make(where, cast)
        work(where)
        assert told(where) == []
        with tenancy.within(where.id):
            set_policy(where, cast, notice_days=[100, 60])
        work(where)
        assert told(where) == [(EXPIRING, key.id, 90)]
        with later(days=89):
            work(where)
        assert [days for _, _, days in told(where)] == [90, 1]


class TestRenewal:
    def test_another_end_has_notices_of_its_own(self, where, cast):
        key = make(where, cast, days=6)
        work(where)
        change(key, where, cast.alice, expires=clock.now() + timedelta(days=60))
        for days in (1, 20, 31, 54):
            with later(days=days):
                work(where)
        assert [days for _, _, days in told(where)] == [6, 29, 6]

    def test_a_little_longer_is_no_other_end(self, where, cast):
        key = make(where, cast, days=5)
        work(where)
        for _ in range(3):
            change(key, where, cast.alice, expires=clock.now() + timedelta(days=6))
            work(where)
        assert [days for _, _, days in told(where)] == [5]
        with later(days=5.5):
            work(where)
        assert [days for _, _, days in told(where)] == [5, 1]

    def test_an_end_that_was_put_off_and_comes_nearer_again_is_told(self, where, cast):
        key = make(where, cast, days=6)
        work(where)
        change(key, where, cast.alice, expires=clock.now() + timedelta(days=60))
        work(where)
        change(key, where, cast.alice, expires=clock.now() + timedelta(days=5))
        work(where)
        assert told(where) == [(EXPIRING, key.id, 6), (EXPIRING, key.id, 5)]

    def test_a_rotation_that_leaves_the_end_repeats_nothing(self, where, cast):
        key = make(where, cast, days=6)
        work(where)
        for _ in range(2):
            key_builders.rotate(key_builders.read(key.id, where), where, cast.alice, mode=Mode.IMMEDIATE)
            work(where)
        assert told(where) == [(EXPIRING, key.id, 6)]
        change(key, where, cast.alice, expires=clock.now() + timedelta(days=6.5))
        work(where)
        assert told(where) == [(EXPIRING, key.id, 6)]

    def test_an_end_that_comes_nearer_is_told(self, where, cast):
        key = make(where, cast, days=90)
        work(where)
        change(key, where, cast.alice, expires=clock.now() + timedelta(days=2))
        work(where)
        assert told(where) == [(EXPIRING, key.id, 2)]

    def test_a_rotated_key_is_spoken_of_by_its_new_secret(self, where, cast):
        key = make(where, cast, days=6, rotation_interval_days=90)
        work(where)
        key_builders.rotate(key_builders.read(key.id, where), where, cast.alice)
        work(where)
        assert told(where) == [(EXPIRING, key.id, 6), (EXPIRING, key.id, 6)]
        with later(days=7):
            work(where)
        ends = [entry for entry in key_builders.entries(where) if entry["act"] == EXPIRED]
        assert [entry["data"]["version"] for entry in ends] == [2]


class TestEnds:
    def test_a_revoked_key_has_no_end_to_tell(self, where, cast):
        key = make(where, cast, days=5)
        with tenancy.within(where.id):
            services.revoke_key(
                key, actor=callers.of_member(builders.member(cast.alice, where)), reason="unused"
            )
        for days in (0, 10):
            with later(days=days):
                work(where)
        assert told(where) == []
        with tenancy.within(where.id):
            assert not KeyDue.objects.filter(key_id=key.id).exists()

    def test_nobody_is_warned_of_a_disabled_key_until_it_is_enabled(self, where, cast):
        key = make(where, cast, days=20)
        change(key, where, cast.alice, enabled=False)
        with later(days=14):
            work(where)
        assert told(where) == []
        change(key, where, cast.alice, enabled=True)
        work(where)
        assert told(where) == [(EXPIRING, key.id, 20)]

    def test_the_end_of_a_disabled_key_is_told(self, where, cast):
        key = make(where, cast, days=5)
        change(key, where, cast.alice, enabled=False)
        with later(days=6):
            work(where)
        assert told(where) == [(EXPIRED, key.id, None)]

    def test_a_name_taken_again_swallows_no_end(self, where, cast):
        key = make(where, cast, days=5, name="taken-again")
        with later(days=6):
            key_builders.create(where, cast.alice, name="taken-again")
            work(where)
        assert told(where, EXPIRED) == [(EXPIRED, key.id, None)]

    def test_a_clock_that_goes_back_repeats_nothing(self, where, cast):
        key = make(where, cast, days=5)
        with later(days=6):
            work(where)
        for days in (0, 4.5, 6, 7):
            with later(days=days):
                work(where)
        assert told(where) == [(EXPIRED, key.id, None)]


class TestWorkers:
    def test_many_keys_in_groups_each_once(self, where, cast):
        keys = {make(where, cast, days=5).id for _ in range(12)}
        found = looking.due_keys(What.EXPIRY, clock.now(), limit=100_000)[where.id]
        assert set(found) == keys
        two = [threading.Thread(target=_look_in_thread, args=(where.id, found)) for _ in range(2)]
        for thread in two:
            thread.start()
        for thread in two:
            thread.join()
        work(where)
        assert sorted(told(where)) == sorted((EXPIRING, key_id, 5) for key_id in keys)

    def test_a_key_that_fails_stops_no_other(self, where, cast, caplog):
        keys = [make(where, cast, days=5) for _ in range(5)]
        poison(keys[2].id)
        try:
            expiry.tell_all_of_expiry(0)
        finally:
            cure()
        assert sorted(told(where)) == sorted((EXPIRING, key.id, 5) for key in keys if key != keys[2])
        assert keys[2].id in caplog.text
        assert work(where) == 0
        with later(minutes=11):
            work(where)
        assert len(told(where)) == 5

    def test_a_failed_transaction_leaves_neither_entry_nor_mark(self, where, cast, monkeypatch):
        key = make(where, cast, days=5)
        monkeypatch.setattr(looking, "postpone", _fail)
        with pytest.raises(RuntimeError):
            work(where)
        assert told(where) == []
        with tenancy.within(where.id):
            assert not Notice.objects.filter(key_id=key.id).exists()
        monkeypatch.undo()
        work(where)
        assert told(where) == [(EXPIRING, key.id, 5)]

    def test_another_organization_sees_none_of_it(self, where, cast):
        make(where, cast, days=5)
        work(where)
        with tenancy.within(cast.elsewhere.id):
            assert not Notice.objects.filter(organization_id=where.id).exists()
            assert not KeyDue.objects.filter(organization_id=where.id).exists()
        found = looking.due_keys(What.EXPIRY, clock.now(), limit=100_000).get(where.id, [])
        assert (
            services.tell_of_expiry(
                cast.elsewhere.id, found or [key_builders.create(where, cast.alice).key.id]
            )
            == 0
        )


def test_what_is_due_is_found_by_an_index():
    with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT key_id FROM keys_due WHERE what = 'expiry' AND due_at <= now() ORDER BY due_at LIMIT 9"
        )
        plan = " ".join(row[0] for row in cursor.fetchall())
    assert "Index Cond" in plan
    assert "due_at <= now()" in plan.partition("Filter")[0]


def set_policy(where, cast, **changes):
    before = policy_of(where.id)
    names = services.PolicyChange.__dataclass_fields__
    services.change_policy(
        services.PolicyChange(**{name: changes.get(name, getattr(before, name)) for name in names}),
        actor=builders.member(cast.alice, where),
    )


def superuser():
    return psycopg.connect(cluster.cluster().url(dbname=cluster.database()), autocommit=True)


def poison(key_id):
    """Let the database refuse every notice of one key."""
    with superuser() as connected:
        connected.execute(
            f"CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.key_id = '{key_id}' THEN RAISE 'poisoned'; END IF; RETURN NEW; END $$"
        )
        connected.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON keys_notice FOR EACH ROW EXECUTE FUNCTION poison()"
        )


def cure():
    with superuser() as connected:
        connected.execute("DROP TRIGGER poison ON keys_notice; DROP FUNCTION poison()")


def _look_in_thread(organization_id, key_ids):
    try:
        services.tell_of_expiry(organization_id, key_ids)
    finally:
        connections.close_all()


def _fail(*_arguments):
    raise RuntimeError("killed")
