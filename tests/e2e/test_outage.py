"""PostgreSQL dies with SIGKILL while keys are made: 503 until it is back, and nothing is half done."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from portal import database_roles
from portal.embedded import Cluster
from tests import cluster as tests_cluster
from tests.e2e.serving import serve

ROOT = Path(__file__).resolve().parent.parent.parent
DATABASE = "keystead"
WRITERS = 4


@dataclass
class Result:
    """What the writers were answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def own_cluster(tmp_path):
    """A durable server of this test's own, because it is about to be killed."""
    own = Cluster(tmp_path / "cluster")
    own.start()
    yield own
    own.erase()


@pytest.fixture
def environment(own_cluster):
    passwords = {login: own_cluster.password(login) for login in database_roles.LOGINS}
    database_roles.set_up(own_cluster.url(), DATABASE, passwords)
    urls = database_roles.login_urls(own_cluster.url(), DATABASE, passwords)
    found = {**os.environ, **tests_cluster.SETTINGS, **urls, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    run(found, "manage.py", "migrate", "--no-input", "--verbosity=0")
    return found


def run(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def call(url: str, secret: str, body: dict | None = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        assert error.headers["Retry-After"] or error.code != 503
        return error.code, json.load(error)


def write(url: str, secret: str, result: Result, number: int) -> None:
    for i in range(10_000):
        if result.stop.is_set():
            return
        name = f"outage-{number}-{i}"
        body = {"name": name, "kind": "control_plane", "environment": "production", "scopes": ["keys:read"]}
        status, answer = call(f"{url}/v1/api-keys", secret, body)
        result.statuses[status] += 1
        if status == 201:
            result.made.append(answer["key"]["id"])


def kill(own: Cluster) -> None:
    """Kill the postmaster and wait until its children are gone too."""
    pid = int((own.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(1.5)


def rows(own: Cluster) -> tuple[set[str], set[str], set[str]]:
    """Return the keys, those with a secret, and those that the ledger says were created."""
    with psycopg.connect(own.url(dbname=DATABASE)) as connection:
        found = [
            "SELECT id FROM keys_apikey",
            "SELECT key_id FROM keys_keysecret",
            "SELECT target FROM audit_entry WHERE act = 'key.created'",
        ]
        keys, secrets, entries = ({row[0] for row in connection.execute(sql)} for sql in found)
    return keys, secrets, entries


def test_killed_while_keys_are_made(own_cluster, environment, tmp_path):
    seed = json.loads(run(environment, "-m", "tests.e2e.seed"))
    result = Result()
    with serve(environment, tmp_path) as server:
        threads = [
            threading.Thread(target=write, args=(server.url, seed["secret"], result, i))
            for i in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        while result.statuses[201] < 20:
            time.sleep(0.05)
        kill(own_cluster)
        while result.statuses[503] < WRITERS:
            time.sleep(0.05)
        own_cluster.start()
        before = result.statuses[201]
        while result.statuses[201] < before + 20:
            time.sleep(0.05)
        result.stop.set()
        for thread in threads:
            thread.join(timeout=30)
    assert set(result.statuses) == {201, 503}
    keys, secrets, entries = rows(own_cluster)
    assert keys == secrets == entries
    assert set(result.made) <= keys
    run(environment, "manage.py", "ledger", "verify")
