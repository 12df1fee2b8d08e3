"""A portal of its own on a durable PostgreSQL of its own, both about to be killed, and writers who keep count."""

import contextlib
import http.client
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from portal import database_roles
from portal.embedded import Cluster
from tests import cluster as tests_cluster

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "keystead"
# What the answer to a request that was cut off says: nothing.
CUT_OFF = 0


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Run a durable PostgreSQL in a folder until the block ends."""
    own = Cluster(folder)
    own.start()
    try:
        yield own
    finally:
        own.erase()


def environment(own: Cluster) -> dict[str, str]:
    """Set the database up, migrate it, and return the environment of a portal on it."""
    passwords = {login: own.password(login) for login in database_roles.LOGINS}
    database_roles.set_up(own.url(), DATABASE, passwords)
    urls = database_roles.login_urls(own.url(), DATABASE, passwords)
    found = {**os.environ, **tests_cluster.SETTINGS, **urls, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    run(found, "manage.py", "migrate", "--no-input", "--verbosity=0")
    return found


def run(environment: dict[str, str], *command: str) -> str:
    """Return what a Python program says; it must end well."""
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


def kill(own: Cluster) -> None:
    """Kill the postmaster and wait until its children are gone too."""
    pid = int((own.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    time.sleep(1.5)


@dataclass
class Writers:
    """Threads that make keys through the API; `made` are those whose making was acknowledged."""

    url: str
    secret: str
    statuses: Counter[int] = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @contextlib.contextmanager
    def writing(self, writers: int) -> Iterator[None]:
        """Write until the block ends."""
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(writers)]
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(timeout=60)

    def wait(self, status: int, more: int, seconds: float = 120) -> None:
        """Wait for so many more answers of a status. Raises `TimeoutError`."""
        wanted, end = self.statuses[status] + more, time.monotonic() + seconds
        while self.statuses[status] < wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"no more answers {status} within {seconds} s: {dict(self.statuses)}")
            time.sleep(0.02)

    def _write(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            status, answer = self._make(f"outage-{number}-{count}")
            self.statuses[status] += 1
            if status == 201:
                self.made.append(answer["key"]["id"])
            elif status == CUT_OFF:
                time.sleep(0.05)

    def _make(self, name: str) -> tuple[int, dict]:
        body = {"name": name, "kind": "control_plane", "environment": "production", "scopes": ["keys:read"]}
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/api-keys", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            assert error.headers["Retry-After"] or error.code != 503
            return error.code, json.load(error)
        except (OSError, http.client.HTTPException, ValueError):
            return CUT_OFF, {}


def rows(own: Cluster) -> tuple[set[str], set[str], set[str]]:
    """Return the keys, those with a secret, and those that the ledger says were created."""
    with psycopg.connect(own.url(dbname=DATABASE)) as connection:
        found = [
            "SELECT id FROM keys_apikey",
            "SELECT key_id FROM keys_keysecret",
            "SELECT target FROM audit_entry WHERE act = 'key.created'",
        ]
        keys, secrets, entries = ({row[0] for row in connection.execute(sql.encode())} for sql in found)
    return keys, secrets, entries
