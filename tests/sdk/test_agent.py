"""`keystead agent`: when a secret is due, and the loop that sees to it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import keystead
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystead import envfile
from keystead.agent import Agent, Schedule, Standing, due
from keystead.place import Place
from keystead.swap import Way

from tests import key_builders
from tests.sdk.conftest import SOURCES
from tests.sdk.test_scan import draw
from tests.sdk.test_swap import CONTENT, NAME, Run, held, put

MADE = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PLAIN = Standing("key_a", 1, MADE, None, None)


class TestDue:
    def test_a_day_or_two_before_the_interval_is_over(self):
        at = due(replace(PLAIN, interval_days=90), Schedule()).at
        assert MADE + 88 * DAY <= at <= MADE + 89 * DAY

    def test_a_short_interval_has_a_short_lead(self):
        at = due(replace(PLAIN, interval_days=1), Schedule()).at
        assert MADE + 0.8 * DAY <= at <= MADE + 0.9 * DAY

    def test_its_own_age_goes_before_the_keys(self):
        at = due(replace(PLAIN, interval_days=90), Schedule(every_days=30)).at
        assert MADE + 28 * DAY <= at <= MADE + 29 * DAY

    def test_before_it_expires(self):
        found = due(replace(PLAIN, interval_days=365, expires_at=MADE + 90 * DAY), Schedule())
        assert MADE + 82 * DAY <= found.at <= MADE + 83 * DAY
        assert found.why == "it expires"
        short = due(replace(PLAIN, interval_days=365, expires_at=MADE + 3 * DAY), Schedule())
        assert MADE + 1.9 * DAY - timedelta(hours=1) <= short.at <= MADE + 2 * DAY

    def test_what_a_rotation_would_not_renew_is_not_rotated_over_and_over(self):
        found = due(replace(PLAIN, expires_at=MADE + DAY), Schedule())
        assert found.at is None
        assert "renews nothing" in found.why

    def test_nor_what_one_has_not_renewed(self):
        near = replace(PLAIN, interval_days=365, expires_at=MADE + 3 * DAY)
        assert due(replace(near, is_vain=True), Schedule()).why == "every 365 days"

    @given(
        every=st.none() | st.floats(0.01, 3650),
        interval=st.none() | st.integers(1, 365),
        life=st.none() | st.integers(1, 365),
        before=st.floats(0, 400),
        version=st.integers(1, 9),
    )
    def test_always_early_and_always_the_same(self, every, interval, life, before, version):
        standing = Standing("key_b", version, MADE, MADE + life * DAY if life else None, interval)
        found = due(standing, Schedule(every, before))
        assert found == due(standing, Schedule(every, before))
        if found.at is None:
            assert every is None
            assert interval is None
            return
        assert found.at > MADE
        assert found.at < MADE + timedelta(days=every or interval or 0)
        if life and interval:
            assert found.at <= standing.expires_at


@pytest.fixture
def own_machine(cast):
    return key_builders.create(cast.acme, cast.alice, rotation_interval_days=30, scopes=["keys:read"])


@pytest.fixture
def file(tmp_path, own_machine):
    return put(tmp_path / ".env", own_machine.secret)


def agent(server, file, schedule=None, wait=None, **way):
    connect = Run(server.url, file).connect
    return Agent(lambda: Place(file), Way(**way), schedule or Schedule(), connect, wait or (lambda _: True))


# Less than a key needs to be asked for.
OLD_AGE = Schedule(every_days=1e-9)


class TestAgent:
    def test_what_is_not_due_is_left(self, server, file, own_machine):
        running = agent(server, file)
        standing, next_ = running.look()
        assert (standing.key_id, standing.version) == (own_machine.key.id, 1)
        assert next_.at > datetime.now(UTC) if next_.at else True
        assert running.once() is None
        assert held(file) == own_machine.secret

    def test_without_a_portal_that_says_its_age_counts_from_when_it_was_first_seen(
        self, server, tmp_path, cast
    ):
        silent = key_builders.create(cast.acme, cast.alice)
        file = put(tmp_path / "env", silent.secret)
        running = agent(server, file, Schedule(every_days=30))
        first = running.look()
        assert abs(first[0].created_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert running.look() == first

    def test_what_is_due_is_rotated(self, server, file, client, own_machine):
        done = agent(server, file, OLD_AGE).once()
        assert (done.key_id, done.version, done.is_complete) == (own_machine.key.id, 2, True)
        assert client.keys.verify(held(file)).key.secret_version == 2

    def test_what_was_begun_is_finished_and_not_begun_again(self, server, file, client, own_machine):
        with pytest.raises(keystead.Unfinished):
            agent(server, file, OLD_AGE, command=["false"]).once()
        assert agent(server, file, Schedule(every_days=1000)).once().version == 2
        assert client.keys.verify(own_machine.secret).code == "SECRET_RETIRED"

    def test_an_expiry_that_a_rotation_does_not_put_off_is_told_and_not_tried_again(
        self, server, tmp_path, cast, client, caplog
    ):
        until = datetime.now(UTC) + timedelta(days=2)
        made = key_builders.create(cast.acme, cast.alice, scopes=["keys:read"], expires=until)
        file = put(tmp_path / "env", made.secret)
        with caplog.at_level("INFO", "keystead.agent"):
            assert agent(server, file).once() is None
        assert "no rotation of ours renews it" in caplog.text
        assert client.keys.verify(made.secret).key.secret_version == 1

    def test_a_secret_that_was_replaced_elsewhere_is_an_alarm(self, server, file, client, own_machine):
        client.keys.rotate(own_machine.key.id)
        with pytest.raises(keystead.SuccessorLost, match=own_machine.key.id):
            agent(server, file, OLD_AGE).once()
        assert held(file) == own_machine.secret

    def test_the_loop_backs_off_and_goes_on(self, server, file, own_machine, caplog):
        waited = []

        def wait(seconds):
            waited.append(seconds)
            if len(waited) == 3:
                put(file, own_machine.secret)
            return len(waited) == 5

        file.write_text("nothing here\n")
        with caplog.at_level("INFO", "keystead.agent"):
            agent(server, file, wait=wait).run()
        assert 13 <= waited[0] <= 15
        assert 27 <= waited[1] <= 30
        assert 54 <= waited[2] <= 60
        assert waited[3] > 3000
        assert caplog.text.count("not set") == 3
        assert own_machine.secret[20:] not in caplog.text


class TestCommand:
    def start(self, portal, file, *arguments):
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SOURCES),
            "KEYSTEAD_URL": portal.url,
        }
        command = [sys.executable, "-m", "keystead", "agent", "--write-env", str(file), *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    def test_a_rotation_by_the_command(self, run, file, client, own_machine):
        done = run("rotate", "--write-env", str(file), "--json", KEYSTEAD_KEY="")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["version"] == 2
        assert held(file)[15:] not in done.stdout + done.stderr
        assert client.keys.verify(own_machine.secret).code == "SECRET_RETIRED"
        again = run("rotate", "--write-env", str(file), "--grace", "3600", KEYSTEAD_KEY="")
        assert again.returncode == 0, again.stderr
        assert "accepted still" in again.stderr
        assert held(file)[15:] not in again.stdout + again.stderr

    def test_exit_codes(self, run, file, client, own_machine, tmp_path):
        assert run("rotate", "--write-env", str(tmp_path / "none")).returncode == 2
        assert run("rotate", "key_a", "--write-env", str(file)).returncode == 2
        assert run("rotate", "--write-env", str(file), "--mode", "immediate").returncode == 2
        assert run("rotate", "--write-env", str(file), "--name", "a b").returncode == 2
        assert run("rotate", "--write-env", str(file), "--file-mode", "644").returncode == 2
        assert run("rotate", "--write-env", str(file), "--exec", "false").returncode == 7
        assert run("rotate", "--write-env", str(file)).returncode == 0
        put(file, own_machine.secret)
        assert run("rotate", "--write-env", str(file)).returncode == 3
        put(file, draw())
        assert run("agent", "--write-env", str(file), "--once").returncode == 3

    def test_a_lost_successor_has_a_code_of_its_own(self, run, file, client, own_machine):
        client.keys.rotate(own_machine.key.id)
        for command in (("rotate",), ("agent", "--once")):
            done = run(*command, "--write-env", str(file))
            assert done.returncode == 6
            assert "Cancel the rotation" in done.stderr

    def test_check_says_when(self, run, file, own_machine):
        done = run("agent", "--write-env", str(file), "--check", "--every", "30")
        assert done.returncode == 0
        assert own_machine.key.id in done.stdout
        assert "due 20" in done.stdout
        assert held(file) == own_machine.secret

    def test_sigterm_ends_it_between_two_looks(self, portal, file, client, own_machine):
        process = self.start(portal, file, "--every", "0.000001")
        deadline = time.monotonic() + 30
        while held(file) == own_machine.secret and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert client.keys.verify(held(file)).key.retiring is False
        assert held(file)[15:] not in said
        assert all(line[:4].isdigit() and "Z " in line for line in said.splitlines()), said

    def test_the_file_is_the_one_that_was(self, run, file):
        run("agent", "--write-env", str(file), "--once", "--every", "0.000001")
        assert file.read_bytes() == CONTENT.format(name=NAME, secret=held(file)).encode()
        assert envfile.secret_of(Path(file).read_bytes(), [NAME])
