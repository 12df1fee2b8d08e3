"""`manage.py serve`: as many processes as wanted on one port, shared by SO_REUSEPORT; who ends is replaced.

Measured against workers behind one socket: the kernel spreads connections evenly, and no process waits for another
(DESIGN, decision 5).
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any, Final

import uvicorn

from portal.config import BASE_DIR
from portal.readers import BoundedReaders

# A process that ends sooner than this after its start is started again only then.
MIN_LIFE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 15
WHOLE, ONLY_VERIFY = "all", "verify"


class ServeError(Exception):
    """The server can't run; the message is one line for the person at the terminal."""


class Processes:
    """The server's processes, each on a socket of its own for the same port."""

    def __init__(self, host: str, port: int, *, workers: int, serves: str) -> None:
        self.host = host
        self.port = port
        self.serves = serves
        self.workers = workers
        self.stopping = False
        self.running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit code. Raises `ServeError` where the port can't be had."""
        for stopping in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stopping, self._stop)
        try:
            check_free(self.host, self.port)
            with bound(self.host, self.port):
                for number in range(self.workers):
                    self._start(number)
                while not self.stopping:
                    self._replace()
                    time.sleep(0.1)
        finally:
            self._end()
        return 0

    def _start(self, number: int) -> None:
        command = (
            sys.executable,
            "-m",
            "portal.serving",
            self.host,
            str(self.port),
            self.serves,
            str(os.getpid()),
        )
        process = subprocess.Popen(command, cwd=BASE_DIR, stdin=subprocess.DEVNULL)  # noqa: S603 - our own
        self.running[number] = (process, time.monotonic())

    def _replace(self) -> None:
        for number, (process, since) in list(self.running.items()):
            if process.poll() is not None and time.monotonic() - since > MIN_LIFE_SECONDS:
                self._start(number)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _end(self) -> None:
        """Stop all: kindly, then not."""
        processes = [process for process, _ in self.running.values()]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_free(host: str, port: int) -> None:
    """Refuse a port that another server listens on, and be it one of ours. Raises `ServeError`."""
    with bound(host, port, is_shared=False):
        pass


def bound(host: str, port: int, *, is_shared: bool = True) -> socket.socket:
    """Return a socket bound to the port, which others of this program may bind too. Raises `ServeError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(is_shared))
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise ServeError(f"{host}:{port} is not free ({error.strerror})") from error
    return found


def main(host: str, port: str, serves: str, supervisor: str) -> None:
    """Be one of the processes of a supervisor, by its process id."""
    threading.Thread(target=_follow, args=(int(supervisor),), daemon=True).start()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    config = uvicorn.Config(
        _gate_alone() if serves == ONLY_VERIFY else _whole(),
        loop="uvloop",
        http=BoundedReaders,
        lifespan="on",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=STOP_SECONDS - 5,
    )
    server = _Server(config)
    with bound(host, int(port)) as listener:
        server.run(sockets=[listener])
    sys.exit(0 if server.started else 1)


class _Server(uvicorn.Server):
    """Ends the streams of revocations when it is told to stop: it waits for them, and they for their clients."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        from keys import revocations  # noqa: PLC0415 - Django first

        revocations.end_streams()
        super().handle_exit(sig, frame)


def _follow(parent: int) -> None:
    """End with the process that started this one, and were it killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _whole() -> Any:
    """Return the whole product; made before the loop runs, because it asks the database whether it may serve."""
    from portal.asgi import application  # noqa: PLC0415

    return application


def _gate_alone() -> Any:
    """Return the application without pages, which are not even loaded."""
    import django  # noqa: PLC0415

    django.setup()
    from keys.gate.asgi import Gate  # noqa: PLC0415

    return Gate(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
