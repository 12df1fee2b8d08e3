"""The offline verifier: a ledger of a million entries, good and with its last entry changed."""

import base64
import hmac
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from audit import note, tree
from tests import offline
from tests.bench import report
from tests.bench.report import Row

ENTRIES = 1_000_000
MOST_SECONDS = 60
MOST_MEGABYTES = 300
SOURCES = Path(__file__).resolve().parents[2] / "sdk" / "src"
FIELDS = ("email", "ip", "name", "user_agent")
CHUNK = 2_000
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Run:
    """One run of the command: its exit code, what it said, its seconds, and the memory of all its processes at once."""

    code: int
    said: str
    seconds: float
    megabytes: float


def measure() -> Iterator[Row]:
    """Yield seconds, entries per second and peak memory over a million entries, each with four sealed values."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        good, tampered = Path(folder, "good.zip"), Path(folder, "tampered.zip")
        make(good, tampered, ENTRIES)
        run = verify(good)
        yield Row(
            figure=f"offline bundle of {ENTRIES:,} entries and {4 * ENTRIES - 4:,} openings",
            measured=f"{good.stat().st_size / 1e6:,.0f} MB",
            holds=run.code == 0 and f"size {ENTRIES}" in run.said,
        )
        yield report.bound("keystead ledger verify of it", run.seconds, " s", at_most=MOST_SECONDS)
        yield Row(figure="entries a second, offline", measured=f"{ENTRIES / run.seconds:,.0f} /s")
        yield report.bound("peak memory of all its processes", run.megabytes, " MB", at_most=MOST_MEGABYTES)
        run = verify(tampered)
        yield Row(
            figure="the same with its last entry changed: found",
            measured=f"{run.seconds:.1f} s: {run.said.strip().rpartition('keystead: ')[2]}",
            holds=run.code == 1 and f"entry {ENTRIES - 1}: altered" in run.said,
        )


def make(good: Path, tampered: Path, size: int) -> None:
    """Write a bundle of so many entries, and one that differs in the last entry alone."""
    with ExitStack() as stack, tempfile.TemporaryFile(dir="/var/tmp") as openings:
        paths = (good, tampered)
        zips = [
            stack.enter_context(zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1))
            for path in paths
        ]
        with ExitStack() as members:
            files = [members.enter_context(each.open("entries.jsonl", "w")) for each in zips]
            grown = tree.Tree()
            for lines, sealed in _chunks(size, grown):
                openings.write(sealed)
                files[0].write(lines)
                is_last = grown.size == size
                files[1].write(b"key.rotated".join(lines.rsplit(b"key.created", 1)) if is_last else lines)
        checkpoint = note.checkpoint_text(offline.ORIGIN, size, grown.root())
        for zipped in zips:
            openings.seek(0)
            with zipped.open("sealed.jsonl", "w") as file:
                while block := openings.read(1 << 20):
                    file.write(block)
            zipped.writestr("vkeys", offline.vkey(offline.ORIGIN) + "\n")
            zipped.writestr("checkpoint", note.sign(checkpoint, offline.ORIGIN, offline.SIGNING_KEY))


def verify(path: Path) -> Run:
    """Run the command on a bundle."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "keystead", "ledger", "verify", str(path)]
    start = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, sum(map(_megabytes, _tree(process.pid))))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
        return Run(process.returncode, process.stdout.read(), seconds, peak)


def _chunks(size: int, grown: tree.Tree) -> Iterator[tuple[bytes, bytes]]:
    """Yield entries and their openings, in the bytes of the ledger's format, and let the tree grow with them."""
    prev = base64.b64encode(tree.EMPTY_ROOT).decode()
    vkey = offline.vkey(offline.ORIGIN)
    first = f'{{"act":"ledger.opened","actor":"sys_portal","data":{{"vkey":"{vkey}"}},"i":0,'
    for start in range(0, size, CHUNK):
        lines: list[bytes] = []
        openings: list[str] = []
        for i in range(start, min(start + CHUNK, size)):
            head, sealed = (_entry(i), _sealed(i, openings)) if i else (first, "")
            moment = f"2026-11-{1 + i // 86_400:02}T{i // 3_600 % 24:02}:{i // 60 % 60:02}:{i % 60:02}.000Z"
            line = (f'{head}"log":"{offline.ORIGIN}","prev":"{prev}",{sealed}"t":"{moment}","v":1}}').encode()
            leaf = tree.leaf_hash(line)
            grown.append(leaf)
            prev = base64.b64encode(leaf).decode()
            lines.append(line)
        yield offline.lines(lines), "".join(openings).encode()


def _entry(i: int) -> str:
    return (
        f'{{"act":"key.created","actor":"usr_{i % 500:020}","data":{{"after":{{"environment":"production",'
        f'"scopes":["incidents:read","alerts:read"]}},"name":"ingest €{i}","request_id":"req_{i:020}",'
        f'"target":"key_{i:020}"}},"i":{i},'
    )


def _sealed(i: int, openings: list[str]) -> str:
    salt = sha256(i.to_bytes(8)).digest()
    shown = base64.b64encode(salt).decode()
    commitments = []
    for name in FIELDS:
        value = f"alice{i}@example.com"
        commitment = hmac.digest(salt, f"{name}\0{value}".encode(), "sha256")
        commitments.append(f'"{name}":"{base64.b64encode(commitment).decode()}"')
        openings.append(f'{{"field":"{name}","i":{i},"salt":"{shown}","value":"{value}"}}\n')
    return f'"sealed":{{{",".join(commitments)}}},'


def _tree(pid: int) -> list[int]:
    """Return a process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _megabytes(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0].split()[1]) / 1024 if found else 0.0
