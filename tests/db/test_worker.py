"""The worker: a process of its own, on its own database, which a test stops, kills and robs of PostgreSQL."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import psycopg
import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from procrastinate.contrib.django import app as queue

from orgs.models.session import Session
from portal import database_roles, tasks
from portal.embedded import Cluster
from tests import cluster, usage_builders
from tests.db.test_usage_rolling import call, value

SECONDS = 40


class Worker:
    """A worker's process."""

    def __init__(self, environment):
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "worker"],
            cwd=cluster.ROOT,
            env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, number=signal.SIGTERM):
        """Signal it; return its exit code, its output, and how long it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, output, errors, time.monotonic() - started


@pytest.fixture
def start():
    workers = []

    def started(environment):
        workers.append(Worker(environment))
        return workers[-1]

    yield started
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.communicate(timeout=SECONDS)


@pytest.fixture
def environment():
    return cluster.new_clone(f"{cluster.database()}_worker")


def eventually(check):
    """Wait until something is so."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if check():
            return
        time.sleep(0.2)
    raise AssertionError(f"not within {SECONDS} s")


def connect(environment, variable="DATABASE_URL"):
    return psycopg.connect(environment[variable], autocommit=True)


def rolled(environment):
    """Return what the days of the roll-up count."""
    with connect(environment) as app:
        app.execute("SET app.organization = '*'")
        return value(app, "SELECT coalesce(sum(calls), 0)::int FROM keys_usage WHERE grain = 'd'")


def record(environment):
    with connect(environment, "DATABASE_VERIFY_URL") as verify:
        call(verify, at=datetime.now(UTC))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_rolls_up_by_the_clock_and_stops_cleanly(environment, start, number):
    record(environment)
    worker = start(environment)
    eventually(lambda: rolled(environment) == 1)
    code, output, errors, seconds = worker.end(number)
    assert (code, output, errors) == (0, "worker: running; Ctrl-C stops it.\nworker: stopped.\n", "")
    assert seconds < 8


# Its transaction is open for seconds, and roll-ups of every database of the server wait for that.
@pytest.mark.timed
def test_a_job_that_is_busy_in_the_database_holds_nobody_up(environment, start):
    record(environment)
    with connect(environment, "DATABASE_MIGRATE_URL") as owner, owner.transaction():
        owner.execute("LOCK TABLE keys_usage IN ACCESS EXCLUSIVE MODE")
        worker = start(environment)
        with connect(environment, "DATABASE_MIGRATE_URL") as other:
            eventually(
                lambda: value(
                    other,
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'keys_usage'::regclass",
                )
            )
        code, _, _, seconds = worker.end()
    assert code == 0
    assert seconds < 8
    again = start(environment)
    eventually(lambda: rolled(environment) == 1)
    assert again.end()[0] == 0


def test_two_of_them_count_once_and_one_goes_on_where_the_other_is_killed(environment, start):
    first, second = start(environment), start(environment)
    for number in range(1, 4):
        record(environment)
        eventually(lambda number=number: rolled(environment) == number)
    first.end(signal.SIGKILL)
    record(environment)
    eventually(lambda: rolled(environment) == 4)
    assert second.end()[0] == 0


def test_the_job_of_a_killed_worker_is_taken_up_once():
    """Another like it may wait already: then the left one goes."""
    task = "portal.sweep"
    with connect(os.environ) as app:
        dead = value(
            app,
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour') RETURNING id",
        )
        for _ in range(2):
            app.execute(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, status, queueing_lock, worker_id)"
                " VALUES ('default', %s, 'doing', %s, %s)",
                [task, task, dead],
            )
        async_to_sync(tasks.take_up_stalled_jobs.func)(SimpleNamespace(app=queue), timestamp=0)
        left = app.execute(
            "SELECT status::text FROM procrastinate_jobs WHERE task_name = %s", [task]
        ).fetchall()
        assert left == [("todo",)]
        app.execute("DELETE FROM procrastinate_jobs WHERE task_name = %s", [task])


def test_sessions_and_counters_go_when_they_have_expired():
    cache.set("lives", 1, timeout=60)
    for key, age in (("expired", 1), ("alive", -1)):
        Session.objects.create(session_key=key, session_data="", expire_date=usage_builders.ago(hours=age))
    with connect(os.environ) as app:
        app.execute("INSERT INTO orgs_counter VALUES ('gone', '', now() - interval '1 second')")
        tasks.sweep_sessions(timestamp=0)
        keys = [row[0] for row in app.execute("SELECT cache_key FROM orgs_counter")]
    assert "gone" not in keys
    assert cache.get("lives") == 1
    found = Session.objects.filter(session_key__in=["expired", "alive"])
    assert [row.session_key for row in found] == ["alive"]
    found.delete()


@pytest.fixture
def own_server(tmp_path):
    """A server that may be stopped: the shared one serves other tests."""
    made = Cluster(tmp_path / "pg", durable=False)
    made.start()
    passwords = {login: made.password(login) for login in database_roles.LOGINS}
    database_roles.set_up(made.url(), "keystead", passwords)
    environment = cluster.SETTINGS | database_roles.login_urls(made.url(), "keystead", passwords)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity=0"],
        cwd=cluster.ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"},
        check=True,
        timeout=120,
    )
    yield made, environment
    made.erase()


def test_it_outlives_a_restart_of_postgresql(own_server, start):
    server, environment = own_server
    worker = start(environment)
    record(environment)
    eventually(lambda: rolled(environment) == 1)
    server.stop()
    time.sleep(12)
    assert worker.process.poll() is None
    server.start()
    record(environment)
    eventually(lambda: rolled(environment) == 2)
    code, _, errors, seconds = worker.end()
    assert code == 0
    assert seconds < 8
    assert "password" not in errors
