"""`manage.py serve --only verify` on this process's clone, its processes to be killed, and clients that keep count."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.serving import ROOT, _free_port

HOST = "127.0.0.1"
VERIFY = "/v1/keys/verify"
START_SECONDS = 40
STOP_SECONDS = 20
LISTENING = "0A"


@dataclass
class Server:
    """The supervisor and where its processes answer."""

    port: int
    supervisor: subprocess.Popen[bytes]
    log: Path

    def processes(self) -> list[int]:
        """Return the processes that the supervisor has started, as far as they live."""
        return children(self.supervisor.pid)

    def backends(self) -> int:
        """Return how many processes listen."""
        return listeners(self.port)


@dataclass(frozen=True)
class Reply:
    """One answer: what came, and after how long."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float = 0.0

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def serve(
    folder: Path, *, workers: int = 2, waits: bool = True, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Serve verification until the block ends; whoever is left then is killed."""
    port = _free_port()
    log = folder / f"serve-{port}.log"
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            command(port, workers),
            cwd=ROOT,
            env={**os.environ, **(environment or {}), "DJANGO_SETTINGS_MODULE": "portal.settings"},
            stdout=output,
            stderr=output,
        )
    server = Server(port, supervisor, log)
    started: set[int] = set()
    try:
        if waits:
            until(lambda: server.backends() == workers, START_SECONDS, log)
            until(lambda: send(port, "GET", "/readyz").status == 200, START_SECONDS, log)
        started |= set(server.processes())
        yield server
    finally:
        started |= set(server.processes())
        supervisor.terminate()
        try:
            supervisor.wait(STOP_SECONDS)
        finally:
            supervisor.kill()
            for pid in started:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)


def command(port: int, workers: int) -> list[str]:
    options = ["--host", HOST, "--port", str(port), "--workers", str(workers), "--only", "verify"]
    return [sys.executable, "manage.py", "serve", *options]


def until(holds: Any, seconds: float, log: Path | None = None) -> float:
    """Wait until something holds; return after how many seconds it did."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if holds():
                return time.monotonic() - began
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s" + (f":\n{log.read_text()[-3000:]}" if log else ""))


def children(pid: int) -> list[int]:
    """Return the living processes of this program below another."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found if is_alive(int(child))]


def is_alive(pid: int) -> bool:
    """Tell whether a process serves: not gone, no zombie, and not the number's next owner."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" and b"portal.serving" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def listeners(port: int) -> int:
    """Return how many sockets listen on a port of the loopback address."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == LISTENING for line in lines)


def memory(pid: int) -> float:
    """Return a process's resident megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} is gone")


def send(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """Send one request on a connection of its own; `headers` with underscores for hyphens."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection):
        return exchange(connection, method, path, body, **headers)


def exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
) -> Reply:
    """Send one request on an open connection."""
    began = time.monotonic()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, given)
    response = connection.getresponse()
    content = response.read()
    told = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, told, content, time.monotonic() - began)


def asking(verifier: str) -> dict[str, str]:
    """Return the headers of a verifier."""
    return {"Authorization": f"Bearer {verifier}", "Content_Type": "application/json"}


def raw(port: int, data: bytes, *, pause: float = 0.0, pieces: int = 1, seconds: float = 5.0) -> bytes:
    """Send bytes as they are, perhaps piece by piece, and return what comes until the server closes."""
    with socket.create_connection((HOST, port), timeout=seconds) as connection:
        size = -(-len(data) // pieces)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
                time.sleep(pause)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """Return what comes until the server closes or says nothing for a while."""
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while part := connection.recv(65_536):
            found += part
    return found


@dataclass
class Load:
    """What clients that ask without a pause were answered."""

    replies: list[Reply] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    broken: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(reply.status for reply in list(self.replies))

    def more(self, number: int, status: int = 200, seconds: float = 10) -> float:
        """Wait for so many more answers of a status; return after how many seconds they were there."""
        wanted = self.statuses[status] + number
        return until(lambda: self.statuses[status] >= wanted, seconds)


@contextlib.contextmanager
def load(port: int, verifier: str, secret: str, clients: int = 16) -> Iterator[Load]:
    """Verify a secret on so many connections at once until the block ends; each call has a name of its own."""
    result = Load()
    threads = [
        threading.Thread(target=_client, args=(port, verifier, secret, number, result), daemon=True)
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield result
    finally:
        result.stop.set()
        for thread in threads:
            thread.join(15)
        assert not any(thread.is_alive() for thread in threads)


def _client(port: int, verifier: str, secret: str, number: int, result: Load) -> None:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    for i in range(1_000_000):
        if result.stop.is_set():
            break
        name = f"{number}-{i}"
        body = json.dumps({"secret": secret, "request_id": name}).encode()
        try:
            reply = exchange(connection, "POST", VERIFY, body, **asking(verifier))
        except (OSError, http.client.HTTPException):
            result.broken += 1
            connection.close()
            time.sleep(0.02)
            continue
        result.replies.append(reply)
        if reply.status == 200:
            result.answered.add(name)
        else:
            time.sleep(0.02)
    connection.close()
