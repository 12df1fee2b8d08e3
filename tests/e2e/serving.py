"""The product as it runs in production, for tests: uvicorn in a process of its own on the test's database."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests import cluster

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 90


@dataclass(frozen=True)
class Server:
    """A running portal: where it answers, its process, and the file that its log goes to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def serve(environment: dict[str, str], folder: Path, *, log_level: str = "INFO") -> Iterator[Server]:
    """Run the portal on a free port of the loopback address until the block ends."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    own = {
        **os.environ,
        **environment,
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "KEYSTEAD_BASE_URL": url,
        "KEYSTEAD_STATIC_ROOT": str(_static_files()),
        "KEYSTEAD_LOG_LEVEL": log_level,
    }
    log = folder / f"server-{port}.log"
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "portal.asgi:application",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--no-proxy-headers", "--no-access-log"],
            cwd=ROOT,
            env=own,
            stdout=output,
            stderr=output,
        )
    try:
        _wait(url, process, log)
        yield Server(url, process, log)
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextlib.contextmanager
def beside(environment: dict[str, str], folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of manage.py beside the portal, as `worker`, until the block ends."""
    own = {**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "portal.settings"}
    with (folder / f"{command[0]}.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=own, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the portal did not start:\n{log.read_text()[-4000:]}")


def _static_files() -> Path:
    """Collect the static files once for the whole run."""
    folder = cluster.folder() / "static"
    if not folder.exists():
        subprocess.run(
            [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity=0"],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "portal.settings",
                "KEYSTEAD_STATIC_ROOT": str(folder),
            },
            check=True,
            timeout=120,
        )
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
