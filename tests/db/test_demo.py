"""`./dev demo`, run for real in a folder of its own, up to the signal that stops it."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from portal import demo, dsn
from portal.embedded import Cluster
from tests.cluster import FOREIGN, ROOT

SECONDS = 500
UNSIGNED = """
    SELECT count(*) FROM audit_head h WHERE NOT EXISTS (
        SELECT FROM audit_checkpoint c WHERE c.organization_id = h.organization_id AND c.size > 0)
"""


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    yield folder
    Cluster(folder / "postgresql").stop()


@pytest.fixture
def port():
    """One that is free, as is the receiver's beside it."""
    while True:
        with socket.socket() as probe, socket.socket() as beside:
            probe.bind((demo.HOST, 0))
            found = probe.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                beside.bind((demo.HOST, found + demo.RECEIVER_OFFSET))
                return found


@contextlib.contextmanager
def running(home, *arguments, **environment):
    """A demo's process with its output in one pipe; it is killed if the test leaves it running."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with subprocess.Popen(
        [sys.executable, "-m", "portal.demo", *arguments],
        cwd=ROOT,
        env=kept | {"KEYSTEAD_HOME": str(home)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process, words):
    """Return the lines up to that with the words; what waits for longer than a demo takes is killed."""
    lines = []
    patience = threading.Timer(SECONDS, process.kill)
    patience.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return lines
    finally:
        patience.cancel()
    pytest.fail(f"{words!r} did not come: {''.join(lines)}")


def ended(home, *arguments, **environment):
    with running(home, *arguments, **environment) as process:
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_starts_leaves_nothing_running(home, port, number):
    with running(home, f"--port={port}") as process:
        read_until(process, "migrating the database")
        process.send_signal(number)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert output == "demo: stopped\n"
    assert not Cluster(home / "postgresql").is_running()


def drive(home, port, environment):
    """Rotate over three regions as `--traffic` does, faster; return what it printed."""
    pace = ("--step-seconds=3", "--quiet-seconds=3")
    command = [
        sys.executable,
        "-m",
        "portal.demo_traffic",
        f"--home={home}",
        f"--port={port + demo.RECEIVER_OFFSET}",
        *pace,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as traffic:
        try:
            shown = read_until(traffic, "go on with the new secret")
            traffic.terminate()
            return shown + traffic.communicate(timeout=30)[0].splitlines(keepends=True)
        finally:
            traffic.kill()


def check_traffic(shown):
    """A rotation went over three regions while nobody noticed, and each of its events was signed."""
    text = "".join(shown)
    for region in ("us-east-1", "us-west-2", "eu-west-2"):
        steps = [
            text.index(f"{region} {step}\n") for step in ("takes up the new secret", "is moving", "is moved")
        ]
        assert steps == sorted(steps)
        assert f'"moved": "{region}"' in text
    assert "the rotation completed by itself\n" in text
    for act in ("started", "target_moved", "completed"):
        assert f"webhook, signature right: rotation.{act} #" in text
    [*_, last] = [line for line in shown if "calls failed" in line]
    calls, failed = re.search(r"traffic: ([\d,]+) calls, (\d+) calls failed$", last.strip()).groups()
    assert int(calls) > 30
    assert failed == "0"


@pytest.mark.timed  # Verification answers in time while it rotates, or calls fail.
def test_it_serves_until_it_is_stopped_and_serves_again(home, port):
    signed = []
    for is_first in (True, False):
        with running(home, f"--port={port}", *(() if is_first else ("--traffic",))) as process:
            shown = "".join(read_until(process, "Ctrl-C stops it."))
            assert f"http://127.0.0.1:{port}\n" in shown
            for row in demo.read_sign_ins(home / "demo.json"):
                assert row["email"] in shown
                assert row["password"] in shown
            assert demo.is_healthy(port)
            signed.append(await_signed(home))
            if is_first:
                check_traffic(drive(home, port, {**os.environ}))
            else:
                read_until(process, "us-east-1 is moving")
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert output.endswith("demo: stopped\n")
        assert is_first or ", 0 calls failed\n" in output
        assert not demo.is_healthy(port)
        assert not Cluster(home / "postgresql").is_running()
    # The second notary went on where the first had ended.
    assert signed[0].keys() <= signed[1].keys()


def await_signed(home):
    """Wait until the notary has signed every ledger of the demo; return what its file holds of each log."""
    with psycopg.connect(dsn.replaced(demo.read_env(home / "env")["DATABASE_NOTARY_URL"])) as connection:
        deadline = time.monotonic() + 30
        while connection.execute(UNSIGNED).fetchone() != (0,):
            assert time.monotonic() < deadline
            connection.rollback()
            time.sleep(0.2)
    return json.loads((home / "notary" / "state.json").read_text())["logs"]


def test_only_the_owner_reads_what_it_wrote(home, port):
    with running(home, f"--port={port}") as process:
        read_until(process, "migrating the database")
        process.terminate()
        process.communicate(timeout=30)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("env", "pepper"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    version, pepper = (home / "pepper").read_text().strip().split(":")
    assert (version, len(bytes.fromhex(pepper))) == ("1", 32)
    written = demo.read_env(home / "env")
    assert written["DATABASE_URL"].startswith("postgres://keystead_app:")
    assert written["DATABASE_MIGRATE_URL"].endswith("options=-c%20role%3Dkeystead_owner")
    assert "BEGIN PUBLIC KEY" in Path(written["LEDGER_PUBLIC_KEY_FILE"]).read_text()
    assert stat.S_IMODE((home / "notary" / "private.pem").stat().st_mode) == 0o600
    assert written["KEYSTEAD_BASE_URL"] == f"http://127.0.0.1:{port}"


def test_a_second_one_says_where_the_first_is(home, port):
    with running(home, f"--port={port}") as first:
        read_until(first, "migrating the database")
        assert ended(home, "--port=1") == (1, f"demo: already running at http://127.0.0.1:{port}\n")
        first.terminate()
        first.communicate(timeout=30)


def test_a_taken_port_is_said_before_anything_slow(home):
    with socket.socket() as taken:
        taken.bind((demo.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, output = ended(home, f"--port={port}")
    assert code == 1
    assert output.startswith(f"demo: port {port} is not free")
    assert output.count("\n") == 1
    assert not (home / "postgresql").exists()


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"DATABASE_URL": "postgres://keystead_app@/x?host=/nonexistent"},
            "DATABASE_MIGRATE_URL must be too",
        ),
        ({"KEYSTEAD_HOME": "/proc/keystead"}, "/proc/keystead: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(home, port, environment, line):
    code, output = ended(home, f"--port={port}", **environment)
    assert code == 1
    assert line in output
    assert output.count("\n") == 1


class TestReset:
    def test_it_deletes_what_a_demo_made_and_nothing_else(self, home):
        home.mkdir()
        for name in ("pepper", "demo.json", "notes.txt"):
            (home / name).write_text("x")
        (home / "static").mkdir()
        (home / "env").write_text("KEYSTEAD_PEPPER_FILE=x\n")
        demo.Demo(home, 8000).reset()
        assert [path.name for path in home.iterdir()] == ["notes.txt"]

    def test_a_folder_that_is_no_demos_stays_as_it_is(self, home):
        home.mkdir()
        (home / "static").mkdir()
        (home / "env").write_text("MINE=1\n")
        demo.Demo(home, 8000).reset()
        assert {path.name for path in home.iterdir()} == {"static", "env"}


def test_where_the_receiver_listens():
    assert demo.Demo(Path("x"), 8000).receiver_port == 8443
    assert demo.Demo(Path("x"), 65535).receiver_port == 65092


def test_a_taken_port_of_the_receiver_is_said_too(home, port):
    with socket.socket() as taken:
        taken.bind((demo.HOST, port + demo.RECEIVER_OFFSET))
        taken.listen()
        code, output = ended(home, f"--port={port}", "--traffic")
    assert code == 1
    assert output.startswith(f"demo: port {port + demo.RECEIVER_OFFSET} is not free")


def test_the_table_is_aligned():
    text = demo.welcome(
        "http://x", [{"role": "Owner", "email": "a@b"}, {"role": "Staff member", "email": "c@d"}]
    )
    lines = text.splitlines()
    assert [line.index(word) for line, word in zip(lines[6:9], ("Email", "a@b", "c@d"), strict=True)] == [
        16
    ] * 3
