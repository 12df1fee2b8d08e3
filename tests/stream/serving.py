"""The stream behind a real server in a process of its own, that a test may kill, and a client that reads its events."""

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.serving import _free_port, _static_files

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30
# The bound that the product promises for a narrowing to be everywhere.
BOUND = 1.0


@dataclass
class Server:
    """A running server; it may be stopped and started again at the same address."""

    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    # As `manage.py serve` runs it in production, with the gate alone.
    is_gate: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "portal.asgi:application", "--host", "127.0.0.1"]
        options = ["--no-proxy-headers", "--no-access-log", "--timeout-graceful-shutdown", "1"]
        if self.is_gate:
            command = [sys.executable, "manage.py", "serve", "--host", "127.0.0.1"]
            options = ["--workers", "1", "--only", "verify"]
        own = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "KEYSTEAD_BASE_URL": self.url,
            "KEYSTEAD_STATIC_ROOT": str(_static_files()),
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *options],
                cwd=ROOT,
                env=own,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{self.url}/healthz", timeout=2)
                return
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(timeout=20)

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        self.process.wait(timeout=20)


@contextlib.contextmanager
def serving(folder: Path, *, is_gate: bool = False) -> Iterator[Server]:
    """Serve on this process's clone until the block ends."""
    port = _free_port()
    server = Server(port, folder / f"stream-{port}.log", is_gate=is_gate)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Events:
    """One open stream: its events as they come, pings apart."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.pings: list[float] = []
        self._events: queue.Queue[tuple[str, str] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float = BOUND) -> tuple[str, str] | None:
        """Return the next event but pings; None: the stream ended. Raises `queue.Empty` where there is none."""
        return self._events.get(timeout=seconds)

    def rest(self, seconds: float = 0.4) -> list[tuple[str, str] | None]:
        """Return what comes until there was nothing for a while."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self.next(seconds))
        return found

    def _read(self) -> None:
        name = ""
        try:
            for line in self.response.iter_lines():
                field, _, value = line.partition(":")
                if field == "event":
                    name = value.strip()
                elif field == "data" and name == "ping":
                    self.pings.append(time.monotonic())
                elif field == "data":
                    self._events.put((name, value.strip()))
        except httpx.HTTPError:
            pass
        self._events.put(None)


@contextlib.contextmanager
def stream(server: Server, secret: str, **options: object) -> Iterator[Events]:
    """Open a stream that is ready."""
    headers = {"Authorization": f"Bearer {secret}"}
    with (
        httpx.Client(timeout=httpx.Timeout(5, read=3)) as client,
        client.stream("GET", f"{server.url}/v1/revocations", headers=headers) as response,
    ):
        assert response.status_code == 200, response.read()
        events = Events(response)
        assert events.next(5) == ("ready", "")
        yield events
