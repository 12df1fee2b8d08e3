"""The roll-up, the partitions and the retention of usage, on a database of their own: whole PostgreSQL, real logins."""

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from tests import cluster

ORGANIZATION = "org_aaaaaaaaaaaaaaaaaaaa"
SHORT = "org_bbbbbbbbbbbbbbbbbbbb"
KEY = "key_aaaaaaaaaaaaaaaaaaaa"
DAY = timedelta(days=1)
INSERT = """
INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, region, ip, cost, calls, verifier_id)
VALUES (%(at)s, %(organization)s, %(key)s, 1, %(code)s, %(endpoint)s, 'eu', '203.0.113.9', 1, %(calls)s, 'key_v')
"""
COUNT = """
SELECT coalesce(sum(calls), 0)::int FROM (
    SELECT calls FROM keys_usage WHERE grain = %s
    UNION ALL SELECT calls FROM keys_call WHERE xid >= (SELECT rolled_until FROM keys_usagemark)) c
"""


class Database:
    """A fresh clone, reached as each login."""

    def __init__(self, name):
        self.environment = cluster.new_clone(name)
        self.name = name
        self.opened = []

    def connect(self, variable="DATABASE_URL", **options):
        connection = psycopg.connect(self.environment[variable], **{"autocommit": True, **options})
        connection.execute("SET app.organization = '*'")
        if not connection.autocommit:
            connection.commit()
        self.opened.append(connection)
        return connection

    def superuser(self):
        connection = psycopg.connect(cluster.cluster().url(dbname=self.name), autocommit=True)
        self.opened.append(connection)
        return connection

    def close(self):
        for connection in self.opened:
            connection.close()


@pytest.fixture
def database():
    made = Database(f"{cluster.database()}_usage")
    yield made
    made.close()


@pytest.fixture
def app(database):
    return database.connect()


@pytest.fixture
def verify(database):
    return database.connect("DATABASE_VERIFY_URL")


def call(connection, at=None, **changes):
    plain = {"organization": ORGANIZATION, "key": KEY, "code": "VALID", "endpoint": "GET /a", "calls": 1}
    connection.execute(INSERT, {"at": at or datetime.now(UTC), **plain, **changes})


def value(connection, statement, *parameters):
    return connection.execute(statement, parameters).fetchone()[0]


ALL = 100_000
PRESENT = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
# It goes as far as the oldest transaction that is open.
HELD_HERE = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %s AND backend_xid::text::bigint = %s)
"""


def roll_up(connection, most=ALL):
    """Roll up, again where a transaction of another worker's database held it up: their numbers are the whole server's.

    What a transaction of this database holds up stays so.
    """
    rolled = 0
    with psycopg.connect(cluster.cluster().url(), autocommit=True) as superuser:
        present = value(superuser, PRESENT)
        for _ in range(1200):
            step = value(connection, "SELECT usage_roll_up(%s)", most)
            if step is None or (step and most < ALL):
                return step
            rolled += step
            mark = value(connection, "SELECT rolled_until::text::bigint FROM keys_usagemark")
            if mark >= present or value(superuser, HELD_HERE, connection.info.dbname, mark):
                return rolled
            time.sleep(0.05)
    raise AssertionError("a transaction is open for a minute")


def counts(connection):
    """Return what each grain counts, with what is not rolled up yet: three times the same, or something is wrong."""
    return [value(connection, COUNT, grain) for grain in "mhd"]


def midnight(days=0):
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + DAY * days


class TestRollUp:
    def test_it_adds_to_what_is_there(self, app, verify):
        for _ in range(2):
            call(verify, at=midnight() + timedelta(seconds=3), calls=5)
            assert roll_up(app) == 1
        rows = app.execute("SELECT grain, at, calls, cost FROM keys_usage ORDER BY grain").fetchall()
        assert rows == [(grain, midnight(), 10, 2) for grain in "dhm"]
        assert roll_up(app) == 0

    def test_a_call_that_is_committed_late_is_counted_then(self, database, app, verify):
        late = database.connect("DATABASE_VERIFY_URL", autocommit=False)
        call(late)
        call(verify)
        assert roll_up(app) == 0, "the transaction before this one is still running"
        assert counts(app) == [1, 1, 1]
        late.commit()
        assert counts(app) == [2, 2, 2]
        assert roll_up(app) == 2
        assert counts(app) == [2, 2, 2]

    def test_so_is_one_that_began_after_those_that_are_rolled_up(self, database, app, verify):
        call(verify)
        late = database.connect("DATABASE_VERIFY_URL", autocommit=False)
        call(late, at=midnight())
        assert roll_up(app) == 1
        late.commit()
        assert counts(app) == [2, 2, 2]
        assert roll_up(app) == 1
        assert counts(app) == [2, 2, 2]

    def test_a_call_that_was_rolled_back_never_counts(self, database, app):
        gone = database.connect("DATABASE_VERIFY_URL", autocommit=False)
        call(gone)
        gone.rollback()
        assert roll_up(app) == 0
        assert counts(app) == [0, 0, 0]

    def test_killed_half_way_it_leaves_nothing(self, database, app, verify):
        call(verify)
        dying = database.connect(autocommit=False)
        assert roll_up(dying) == 1
        assert roll_up(app) is None, "one at a time"
        value(database.superuser(), "SELECT pg_terminate_backend(%s)", dying.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            dying.commit()
        assert counts(app) == [1, 1, 1]
        deadline = time.monotonic() + 10
        while (rolled := roll_up(app)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert rolled == 1
        assert counts(app) == [1, 1, 1]

    def test_it_goes_in_steps_and_never_parts_a_transaction(self, database, app, verify):
        batch = database.connect("DATABASE_VERIFY_URL", autocommit=False)
        for _ in range(5):
            call(batch)
        batch.commit()
        for _ in range(6):
            call(verify)
        steps = []
        while step := roll_up(app, 2):
            steps.append(step)
            assert counts(app) == [11, 11, 11]
        assert sum(steps) == 11
        assert steps[0] >= 5
        assert len(steps) > 2

    def test_the_endpoint_after_the_thousandth_of_a_day_is_other(self, app, verify):
        verify.execute(
            "INSERT INTO keys_call (at, organization_id, key_id, version, code, endpoint, cost, verifier_id)"
            " SELECT now() + n * interval '1 microsecond', %s, %s, 1, 'VALID', 'GET /' || n, 1, 'key_v'"
            " FROM generate_series(1, 1001) n",
            [ORGANIZATION, KEY],
        )
        call(verify, endpoint="")
        roll_up(app)
        call(verify, endpoint="GET /later")
        call(verify, endpoint="GET /1")
        call(verify, endpoint="GET /later", organization=SHORT)
        call(verify, endpoint="GET /later", at=midnight(1))
        roll_up(app)
        found = dict(
            app.execute(
                "SELECT endpoint, sum(calls)::int FROM keys_usage"
                " WHERE grain = 'd' AND organization_id = %s AND at = %s GROUP BY 1",
                [ORGANIZATION, midnight()],
            ).fetchall()
        )
        assert len(found) == 1002
        assert (found["other"], found["GET /1"], found[""]) == (2, 2, 1)
        assert "GET /1001" not in found
        assert (
            value(app, "SELECT count(*) FROM keys_usage WHERE grain = 'd' AND endpoint = 'GET /later'") == 2
        )
        assert counts(app) == [1006, 1006, 1006]

    def test_many_at_once_count_once(self, database, app, verify):
        for _ in range(50):
            call(verify)
        connections = [database.connect() for _ in range(6)]
        threads = [threading.Thread(target=roll_up, args=[connection, 7]) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts(app) == [50, 50, 50]

    def test_after_a_restore_from_another_server_the_new_calls_count_too(self, database, app, verify):
        """There the transactions' numbers were higher: a mark from the future, and calls on both sides of it."""
        for _ in range(3):
            call(verify)
        roll_up(app)
        call(verify)
        superuser = database.superuser()
        far = 10**12
        superuser.execute("CREATE TEMP TABLE dump AS SELECT * FROM keys_call")
        superuser.execute("TRUNCATE keys_call")
        superuser.execute(
            "INSERT INTO keys_call SELECT d.at, d.organization_id, d.key_id, d.version, d.code, d.endpoint, d.region,"
            " d.ip, d.user_agent, d.request_id, d.cost, d.calls, d.trace, d.verifier_id,"
            " (d.xid::text::bigint + %s)::text::xid8 FROM dump d",
            [far],
        )
        superuser.execute(
            "UPDATE keys_usagemark SET rolled_until = (rolled_until::text::bigint + %s)::text::xid8", [far]
        )
        assert counts(app) == [4, 4, 4]
        call(verify)
        while roll_up(app):
            pass
        assert counts(app) == [5, 5, 5]
        call(verify)
        assert roll_up(app) == 1
        assert counts(app) == [6, 6, 6]


class TestPartitions:
    def days(self, connection):
        return [
            row[0]
            for row in connection.execute(
                "SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'keys_call'::regclass AND c.relname <> 'keys_call_default' ORDER BY 1"
            )
        ]

    def add(self, connection, days=14):
        return value(connection, "SELECT usage_add_partitions(%s)", days)

    def test_the_migration_made_today_and_fourteen_days(self, app):
        found = self.days(app)[-15:]
        first = date.fromisoformat(found[0])
        # It was yesterday where the tests began before midnight.
        assert datetime.now(UTC).date() - first in (timedelta(), DAY)
        assert found == [f"{first + DAY * n:%Y%m%d}" for n in range(15)]

    def test_more_are_made_once(self, app):
        self.add(app, 14)
        assert self.add(app, 16) == 2
        assert self.add(app, 16) == 0

    @pytest.mark.parametrize("days", [-1, 61, None])
    def test_not_for_years(self, app, days):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            self.add(app, days)

    def test_a_call_goes_to_its_day(self, app, verify, database):
        call(verify, at=midnight(1) - timedelta(microseconds=1))
        call(verify, at=midnight(1))
        found = (
            database.superuser()
            .execute("SELECT tableoid::regclass::text FROM keys_call ORDER BY at")
            .fetchall()
        )
        assert found == [(f"keys_call_p{midnight(n):%Y%m%d}",) for n in (0, 1)]

    def test_calls_without_a_partition_move_to_their_day_and_count_all_the_while(self, app, verify, database):
        superuser = database.superuser()
        for day in self.days(app):
            superuser.execute(f"DROP TABLE keys_call_p{day}")
        for at in (midnight(-3), midnight(-3), midnight(-1), midnight()):
            call(verify, at=at)
        roll_up(app)
        call(verify)
        assert counts(app) == [5, 5, 5]
        assert self.add(app) == 17
        assert counts(app) == [5, 5, 5]
        assert value(app, "SELECT count(*) FROM keys_call") == 1, "what is rolled up is set aside"
        assert [value(app, "SELECT usage_move_left(2)") for _ in range(4)] == [2, 2, 0, 0]
        assert counts(app) == [5, 5, 5]
        assert value(app, "SELECT count(*) FROM keys_call") == 5
        assert value(superuser, "SELECT count(*) FROM keys_call_default") == 0
        assert roll_up(app) == 1
        assert counts(app) == [5, 5, 5]
        assert self.add(app) == 0

    def test_the_server_does_all_that_when_it_starts(self, app, verify, database):
        superuser = database.superuser()
        for day in self.days(app):
            superuser.execute(f"DROP TABLE keys_call_p{day}")
        for at in (midnight(-2), midnight()):
            call(verify, at=at)
        roll_up(app)
        call(verify)
        script = "from keys.usage import partitions; print(partitions.ensure(), partitions.ensure())"
        done = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "-c", script],
            cwd=cluster.ROOT,
            env={**os.environ, **database.environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == ["16", "0"]
        assert counts(app) == [3, 3, 3]
        assert value(superuser, "SELECT count(*) FROM keys_call_default") == 0
        assert value(superuser, "SELECT to_regclass('keys_call_left')") is None

    @pytest.mark.timed
    def test_a_call_may_come_in_while_partitions_are_made(self, app, verify, database):
        """Verification never waits longer than the quarter of a second that it takes to give up."""
        open_ = database.connect("DATABASE_VERIFY_URL", autocommit=False)
        call(open_, at=midnight(20))
        started = time.monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            self.add(app, 15)
        assert time.monotonic() - started < 1
        call(verify, at=midnight(20))
        open_.commit()
        assert self.add(app, 15) > 0
        assert counts(app) == [2, 2, 2]

    @pytest.mark.timed
    def test_verification_goes_on_while_they_are_made(self, app, database, verify):
        superuser = database.superuser()
        for day in self.days(app):
            superuser.execute(f"DROP TABLE keys_call_p{day}")
        longest, written, done = 0.0, 0, threading.Event()

        def write():
            nonlocal longest, written
            while not done.is_set():
                started = time.monotonic()
                call(verify)
                written += 1
                longest = max(longest, time.monotonic() - started)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            self.until_made(app)
        finally:
            done.set()
            thread.join()
        assert written
        assert longest < 1, "a quarter of a second of waiting, the change itself, and a busy machine"
        assert counts(app) == [written] * 3

    def until_made(self, app):
        for _ in range(50):
            roll_up(app)
            try:
                if self.add(app):
                    return
            except (psycopg.OperationalError, psycopg.errors.CheckViolation):
                time.sleep(0.05)
        raise AssertionError("no partitions")

    def test_two_at_once(self, database):
        self.add(database.connect(), 14)
        first = database.connect(autocommit=False)
        assert self.add(first, 15) == 1
        assert self.add(database.connect(), 15) is None
        first.commit()
        assert self.add(database.connect(), 15) == 0


class TestRetention:
    @pytest.fixture(autouse=True)
    def organizations(self, database):
        superuser = database.superuser()
        superuser.execute(
            "INSERT INTO orgs_plan (slug, name, description, usage_retention_days, entitlements, created_at)"
            " VALUES ('long', 'Long', '', 90, '{}', now()), ('short', 'Short', '', 10, '{}', now())"
        )
        for id_, plan in ((ORGANIZATION, "long"), (SHORT, "short")):
            superuser.execute(
                "INSERT INTO orgs_organization (id, slug, name, is_operator, plan_id, overrides, created_at)"
                " VALUES (%s, %s, 'Name', false, %s, '{}', now())",
                [id_, plan, plan],
            )
        self.superuser = superuser

    def partition(self, days):
        """Have a partition of a day that is past."""
        day = midnight(days).date()
        self.superuser.execute(f"SET ROLE keystead_owner; SELECT usage_new_table(usage_partition('{day}'))")
        self.superuser.execute(
            f"ALTER TABLE keys_call ATTACH PARTITION keys_call_p{day:%Y%m%d}"
            f" FOR VALUES FROM ('{day}Z') TO ('{day + DAY}Z'); RESET ROLE"
        )
        return day

    def retain(self, app):
        app.execute("SELECT usage_retain()")
        days = [row[0] for row in app.execute("SELECT usage_past_days()")]
        return {day: value(app, "SELECT usage_retain_calls(%s)", day) for day in days}

    def test_each_organization_keeps_what_its_plan_says(self, app, verify):
        past, mixed, kept = (self.partition(days) for days in (-95, -20, -5))
        for days in (-95, -20, -5):
            for organization in (ORGANIZATION, SHORT):
                call(verify, at=midnight(days) + DAY / 2, organization=organization)
        call(verify, at=midnight(-20) + DAY / 2, calls=3)
        roll_up(app)
        assert self.retain(app) == {past: None, mixed: 1}
        left = app.execute(
            "SELECT organization_id, at::date FROM keys_call ORDER BY at, organization_id"
        ).fetchall()
        assert left == [(ORGANIZATION, mixed), (ORGANIZATION, mixed), (ORGANIZATION, kept), (SHORT, kept)]
        assert self.retain(app) == {mixed: 0}

    def test_what_is_not_rolled_up_stays_until_it_is(self, app, verify):
        past = self.partition(-95)
        call(verify, at=midnight(-95))
        assert self.retain(app) == {past: 0}
        roll_up(app)
        assert self.retain(app) == {past: None}

    def test_roll_ups_go_by_grain_and_plan(self, app, verify):
        for organization in (ORGANIZATION, SHORT):
            for days in (-100, -60, -8, -1):
                call(verify, at=midnight(days), organization=organization)
        roll_up(app)
        self.retain(app)
        ages = {}
        for organization, grain, at in app.execute(
            "SELECT organization_id, grain, at FROM keys_usage ORDER BY at"
        ):
            ages.setdefault((organization, grain), []).append((at - midnight()).days)
        assert ages[ORGANIZATION, "m"] == ages[SHORT, "m"] == [-1]
        assert ages[ORGANIZATION, "h"] == ages[ORGANIZATION, "d"] == [-60, -8, -1]
        assert ages[SHORT, "h"] == [-8, -1]
        assert ages[SHORT, "d"][-2:] == [-8, -1]

    def test_the_days_of_the_running_month_stay(self, app, verify):
        """A month's requests are counted by them, however short the retention."""
        self.superuser.execute("UPDATE orgs_plan SET usage_retention_days = 1 WHERE slug = 'short'")
        first = midnight().replace(day=1)
        call(verify, at=first, organization=SHORT)
        call(verify, at=first - DAY * 3, organization=SHORT)
        roll_up(app)
        self.retain(app)
        found = app.execute(
            "SELECT at FROM keys_usage WHERE organization_id = %s AND grain = 'd'", [SHORT]
        ).fetchall()
        assert found == [(first,)]

    def test_unknown_calls_batches_idempotency_and_the_default_partition(self, app, verify):
        call(verify, at=midnight(-40), organization=SHORT)
        call(verify, at=midnight(-40))
        for days in (-40, -1):
            verify.execute(
                "INSERT INTO keys_unknowncalls VALUES (%s, %s, 'other', 'NOT_FOUND', 1)",
                [SHORT, midnight(days)],
            )
        for age in (1, 3):
            self.superuser.execute(
                "INSERT INTO keys_usagereport VALUES ('key_v', %s, %s, %s)",
                [f"batch {age}", SHORT, datetime.now(UTC) - DAY * age],
            )
            self.superuser.execute(
                "INSERT INTO keys_idempotencyrecord"
                " (organization_id, caller, key_digest, request_digest, status, answer, created_at)"
                " VALUES (%s, %s, '', '', 201, '{}', %s)",
                [SHORT, f"key_{age}", datetime.now(UTC) - DAY * (age - 0.5)],
            )
        roll_up(app)
        self.retain(app)
        assert value(app, "SELECT array_agg(organization_id::text) FROM keys_call") == [ORGANIZATION]
        assert value(app, "SELECT count(*) FROM keys_unknowncalls") == 1
        assert value(app, "SELECT array_agg(batch::text) FROM keys_usagereport") == ["batch 1"]
        assert value(app, "SELECT array_agg(caller::text) FROM keys_idempotencyrecord") == ["key_1"]

    def test_no_day_goes_before_its_time(self, app, verify):
        call(verify)
        roll_up(app)
        assert value(app, "SELECT usage_retain_calls(%s)", midnight().date()) == 0
        assert counts(app) == [1, 1, 1]

    def test_three_ways_of_counting_keep_the_same(self, app, verify):
        """Whatever goes, a week is the sum of the days of it that stay, and no way tells of more calls than another."""
        for organization in (ORGANIZATION, SHORT):
            for days in range(-120, 1):
                call(verify, at=midnight(days) + DAY / 3, organization=organization, calls=200 + days)
                call(verify, at=midnight(days) + DAY / 2, organization=organization, code="EXPIRED")
        roll_up(app)
        self.retain(app)
        self.same(app)
        assert value(app, "SELECT min(at) FROM keys_usagekey WHERE grain = 'd'") >= midnight(-92)
        self.superuser.execute("UPDATE orgs_plan SET usage_retention_days = 45 WHERE slug = 'long'")
        self.retain(app)
        self.same(app)
        weeks = value(app, "SELECT min(at) FROM keys_usagekey WHERE grain = 'w'")
        days = value(app, "SELECT min(at) FROM keys_usagekey WHERE grain = 'd'")
        assert weeks <= days < weeks + 7 * DAY
        roll_up(app)
        self.same(app)

    def same(self, app):
        summed = (
            "coalesce(sum(calls) FILTER (WHERE code <> 'VALID'), 0),"
            " coalesce(sum(cost) FILTER (WHERE code = 'VALID'), 0)"
        )
        ways = {"keys_usage": summed, "keys_usageplace": summed, "keys_usagekey": "sum(refused), sum(cost)"}
        for grain in "hd":
            found = [
                app.execute(
                    f"SELECT organization_id, at, sum(calls), {rest} FROM {table} WHERE grain = %s"
                    " GROUP BY 1, 2 ORDER BY 1, 2",
                    [grain],
                ).fetchall()
                for table, rest in ways.items()
            ]
            assert found[0] == found[1] == found[2]
        weeks, days = (
            app.execute(
                f"SELECT organization_id, key_id, {week}, sum(calls), sum(refused), sum(cost) FROM keys_usagekey"
                " WHERE grain = %s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                [grain],
            ).fetchall()
            for grain, week in (("w", "at"), ("d", "date_trunc('week', at, 'UTC')"))
        )
        assert weeks == days


class TestWhoMayWhat:
    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT * FROM keys_call_default",
            "SELECT usage_new_table('keys_call_mine')",
            "SELECT usage_set_aside()",
            "SELECT usage_admit_endpoints('0', '9')",
            "SELECT usage_add_up('0', '9')",
            "SELECT usage_renumber('0')",
            "SELECT * FROM usage_kept()",
            "INSERT INTO keys_usage VALUES ('o', 'd', now(), 'k', '', '', 'VALID', 1, 1)",
            "UPDATE keys_usagemark SET rolled_until = '0'",
            "DELETE FROM keys_call",
            "DELETE FROM keys_usage",
            "INSERT INTO keys_usageplace VALUES ('o', 'd', now(), 'p', 'e', '', '', 'VALID', 1, 1)",
            "UPDATE keys_usagekey SET calls = 0",
            "DELETE FROM keys_usagekey",
        ],
    )
    def test_the_application_reads_and_calls_and_no_more(self, app, statement):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(statement)

    def test_no_partition_is_read_by_itself(self, app, verify, database):
        call(verify)
        app.execute("SELECT usage_add_partitions(20)")
        names = [
            row[0]
            for row in app.execute(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'keys_call'::regclass"
            )
        ]
        assert len(names) >= 22
        for name in names:
            for connection in (app, verify):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SELECT * FROM {name}")

    def test_verification_only_inserts(self, verify):
        call(verify)
        for statement in (
            "SELECT * FROM keys_call",
            "UPDATE keys_call SET calls = 1",
            "DELETE FROM keys_call",
            "SELECT * FROM keys_usage",
            "SELECT usage_roll_up()",
            "SELECT usage_retain()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                verify.execute(statement)

    def test_a_tenant_reads_its_own_rows_alone(self, database, app, verify):
        call(verify)
        call(verify, organization=SHORT)
        roll_up(app)
        app.execute("SELECT set_config('app.organization', %s, false)", [SHORT])
        for table in ("keys_call", "keys_usage", "keys_usageplace", "keys_usagekey", "keys_usageendpoint"):
            assert app.execute(f"SELECT DISTINCT organization_id FROM {table}").fetchall() == [(SHORT,)]
        app.execute("RESET app.organization")
        assert value(app, "SELECT count(*) FROM keys_usage") == 0
