"""SIGKILL of PostgreSQL, of the web's processes and of the notary, under load: is anything acknowledged lost?"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from audit import entry, note, tree
from portal.embedded import Cluster
from tests import notaries, outage
from tests.bench.report import Row
from tests.db.gate_serving import children
from tests.e2e.serving import _free_port

WRITERS = 4
ON_DISK = "/var/tmp"
BETWEEN = 5
# How long a notary lives at most after its first beat: several rounds.
LIFE_SECONDS = 4.0
CHECKPOINTS = "SELECT size, root, note FROM audit_checkpoint WHERE organization_id = %s ORDER BY size"
SIGNED = """
    SELECT h.size, (SELECT max(c.size) FROM audit_checkpoint c WHERE c.organization_id = h.organization_id)
    FROM audit_head h WHERE h.organization_id = %s
"""
LEAVES = "SELECT index, leaf FROM audit_entry WHERE organization_id = %s ORDER BY index"


def measure(rounds: int) -> Iterator[Row]:
    """Yield, after `rounds` kills of each, what of what was acknowledged is not there, and whether all fits."""
    with tempfile.TemporaryDirectory(prefix="keystead-kills-", dir=ON_DISK) as name:
        folder = Path(name)
        with outage.cluster(folder / "cluster") as own:
            environment = outage.environment(own)
            notaries.new(folder / "notary")
            seed = json.loads(outage.run(environment, "-m", "tests.e2e.seed"))
            with _web(environment, folder) as (web, url):
                writers = outage.Writers(url, seed["secret"])
                with writers.writing(WRITERS):
                    writers.wait(201, BETWEEN)
                    _repeat("PostgreSQL", rounds, lambda: _kill_database(own, writers))
                    _repeat("a web process", rounds, lambda: _kill_web(web, writers))
                    _repeat("the notary", rounds, lambda: _kill_notary(own, environment, folder))
            with _notary(environment, folder):
                settled = _settle(own, seed["organization"])
            yield from _judged(own, environment, writers, seed["organization"], rounds, settled=settled)


def _repeat(whom: str, rounds: int, kill: Callable[[], None]) -> None:
    for done in range(1, rounds + 1):
        kill()
        if done % 10 == 0:
            print(f"bench:   {whom}: killed {done} times", file=sys.stderr, flush=True)


def _kill_database(own: Cluster, writers: outage.Writers) -> None:
    time.sleep(random.random() / 5)
    outage.kill(own)
    own.start()
    writers.wait(201, BETWEEN)


def _kill_web(web: subprocess.Popen[bytes], writers: outage.Writers) -> None:
    time.sleep(random.random() / 5)
    if living := children(web.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(living), signal.SIGKILL)
    writers.wait(201, BETWEEN)


def _kill_notary(own: Cluster, environment: dict[str, str], folder: Path) -> None:
    started = _beats(own)
    with _notary(environment, folder) as notary:
        while _beats(own) == started:
            assert notary.poll() is None, (folder / "notary.log").read_text()[-4000:]
            time.sleep(0.05)
        time.sleep(LIFE_SECONDS * random.random())
        notary.kill()


def _beats(own: Cluster) -> object:
    with psycopg.connect(own.url(dbname=outage.DATABASE)) as connection:
        return connection.execute("SELECT beat_at FROM audit_notary").fetchone()


@contextlib.contextmanager
def _web(environment: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    own = {**environment, "KEYSTEAD_BASE_URL": url}
    command = ["manage.py", "serve", "--port", str(port), "--workers", "2"]
    with _process(own, folder / "web.log", command) as web:
        while not _answers(url):
            assert web.poll() is None, (folder / "web.log").read_text()[-4000:]
            time.sleep(0.2)
        yield web, url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _notary(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with _process(
        environment, folder / "notary.log", ["manage.py", "notary", "run", "--folder", str(folder / "notary")]
    ) as notary:
        yield notary


@contextlib.contextmanager
def _process(environment: dict[str, str], log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=outage.ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _settle(own: Cluster, organization: str, seconds: float = 60) -> bool:
    """Wait until everything is signed; return whether it was in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with psycopg.connect(own.url(dbname=outage.DATABASE)) as connection:
            size, signed = connection.execute(SIGNED, [organization]).fetchone() or (0, 0)
        if size == signed:
            return True
        time.sleep(0.5)
    return False


def _judged(
    own: Cluster,
    environment: dict[str, str],
    writers: outage.Writers,
    organization: str,
    rounds: int,
    *,
    settled: bool,
) -> Iterator[Row]:
    keys, secrets, entries = outage.rows(own)
    lost = len(set(writers.made) - entries)
    refused, cut_off = writers.statuses[503], writers.statuses[outage.CUT_OFF]
    yield Row(
        figure=f"{rounds:,} SIGKILLs each of PostgreSQL, web and notary under {WRITERS} writers",
        measured=f"{len(writers.made):,} keys acknowledged, {refused:,} x 503, {cut_off:,} cut off",
    )
    yield Row(
        figure="… acknowledged entries that are lost", at_least="0", measured=str(lost), holds=lost == 0
    )
    halves = len(keys ^ entries) + len(keys ^ secrets)
    yield Row(
        figure="… keys without entry or secret, and the reverse",
        at_least="0",
        measured=str(halves),
        holds=not halves,
    )
    outage.run(environment, "manage.py", "ledger", "verify")
    yield Row(figure="… gaps in the ledger (manage.py ledger verify)", at_least="0", measured="0", holds=True)
    signed, wrong = _checkpoints(own, organization)
    yield Row(
        figure="… checkpoints that are not the root of their size",
        at_least="0",
        measured=f"{wrong} of {signed:,}",
        holds=not wrong and settled,
    )


def _checkpoints(own: Cluster, organization: str) -> tuple[int, int]:
    """Return how many checkpoints there are, and how many don't fit the leaves that are there now."""
    with psycopg.connect(own.url(dbname=outage.DATABASE)) as connection:
        signed = {
            size: (bytes(root), text) for size, root, text in connection.execute(CHECKPOINTS, [organization])
        }
        grown, roots = tree.Tree(), {}
        for _, leaf in connection.execute(LEAVES, [organization]):
            grown.append(entry.leaf_hash(bytes(leaf)))
            roots[grown.size] = grown.root()
    key = note.VerifierKey(
        entry.origin("ledger.example", organization), notaries.KEY.public_key().public_bytes_raw()
    )
    wrong = sum(not _fits(text, key, size, root, roots.get(size)) for size, (root, text) in signed.items())
    return len(signed), wrong


def _fits(text: str, key: note.VerifierKey, size: int, root: bytes, true: bytes | None) -> bool:
    signed = note.open_checkpoint(text, key.name, [key])
    return root == true == signed.root and size == signed.size
