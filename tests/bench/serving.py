"""The servers that are measured, each with as many processes as there are cores, and what memory they take."""

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import cluster
from tests.e2e import serving

ROOT = serving.ROOT
CORES = os.cpu_count() or 1
START_SECONDS = 60
STOP_SECONDS = 30
MEGABYTE = 1024


@dataclass(frozen=True)
class Server:
    """A server that answers at `url`, and the processes that it was started as."""

    url: str
    started: Sequence[subprocess.Popen[bytes]]

    def memory(self) -> dict[int, tuple[float, float]]:
        """Return resident and proportional size, in megabytes, of each process that serves, by process id.

        A process that only watches over others of its kind does not serve.
        """
        family = {pid for process in self.started for pid in _family(process.pid)}
        watching = {_parent(pid) for pid in family}
        return {pid: _sizes(pid) for pid in sorted(family - watching)}


@contextlib.contextmanager
def product(environment: dict[str, str], *, workers: int = CORES) -> Iterator[Server]:
    """Run `manage.py serve --only verify`."""
    command = ["manage.py", "serve", "--host", "127.0.0.1", "--workers", str(workers), "--only", "verify"]
    with _running([[*command, "--port", "{port}"]], _product(environment)) as server:
        yield server


@contextlib.contextmanager
def bare(environment: dict[str, str]) -> Iterator[Server]:
    """Run the bare application, a process for each core on one port."""
    command = ["-m", "tests.bench.bare", "{port}"]
    with _running([command] * CORES, _product(environment)) as server:
        yield server


@contextlib.contextmanager
def rest_framework(environment: dict[str, str]) -> Iterator[Server]:
    """Run the view that djangorestframework-api-key guards, under gunicorn."""
    command = ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", str(CORES)]
    command += ["--log-level", "warning", "tests.bench.rest_framework:application"]
    with _running([command], environment) as server:
        yield server


@contextlib.contextmanager
def _running(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> Iterator[Server]:
    port = serving._free_port()
    log = cluster.folder() / f"server-{port}.log"
    with log.open("wb") as output:
        started = [
            subprocess.Popen(
                [sys.executable, *(part.format(port=port) for part in command)],
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=output,
            )
            for command in commands
        ]
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, started, log)
        yield Server(url, started)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(timeout=STOP_SECONDS)


def _wait(url: str, started: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in started):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")


def _product(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                yield from _family(int(child))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _sizes(pid: int) -> tuple[float, float]:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Rss|Pss): +(\d+) kB$", rollup, re.MULTILINE))
    return int(found["Rss"]) / MEGABYTE, int(found["Pss"]) / MEGABYTE
