"""Stretches of a log checked side by side, in processes of their own; in this one where none can be started.

A worker is another Python with the same path that reads stretches from a pipe. Not `multiprocessing`: that would run
the caller's own program again, or need what a container may lack.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator
from typing import IO, Any, Final

from keystead.ledger.chain import Checked, Stretch, check
from keystead.ledger.errors import BundleMalformed

MAX_WORKERS: Final = 8
_LENGTH: Final = struct.Struct("<Q")
# Isolated, so that no file of the folder where somebody checks a bundle is run; then with this process's own path.
_CODE: Final = (
    "import json, sys; sys.path = json.loads(sys.argv[1]); from keystead.ledger.workers import serve; serve()"
)


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_all(stretches: Iterator[Stretch], processes: int) -> Generator[Checked, None, None]:
    """Yield what was found in each stretch, in order; with fewer than 2 processes in this one alone.

    Where reading the next stretch fails, what was read before is yielded first.
    """
    workers = [worker for _ in range(processes if processes > 1 else 0) if (worker := _Worker.start())]
    waiting: deque[tuple[_Worker, Stretch]] = deque()
    failure: BundleMalformed | None = None
    try:
        for number, stretch in enumerate(_until_broken(stretches)):
            if isinstance(stretch, BundleMalformed):
                failure = stretch
            elif not workers:
                yield check(stretch)
            else:
                if len(waiting) == len(workers):
                    yield _result(*waiting.popleft())
                worker = workers[number % len(workers)]
                worker.send(stretch)
                waiting.append((worker, stretch))
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        for worker in workers:
            worker.stop()
    if failure is not None:
        raise failure


def serve() -> None:
    """Check the stretches on the standard input until it ends."""
    # The one who started this decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (given := _receive(sys.stdin.buffer)) is not None:
        _send(sys.stdout.buffer, tuple(vars(check(Stretch(*given))).values()))


class _Worker:
    """Another process. When it dies, what it was given is done here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls) -> _Worker | None:
        """Return a worker, or None where none can be started."""
        if not sys.executable:
            return None
        command = [sys.executable, "-I", "-c", _CODE, json.dumps(sys.path)]
        try:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except (OSError, ValueError):
            return None
        return cls(process)

    def send(self, stretch: Stretch) -> None:
        """Hand a stretch over; it must have answered the last one."""
        with contextlib.suppress(OSError, ValueError):
            _send(self._process.stdin, tuple(stretch))

    def receive(self) -> Checked | None:
        """Wait for what it found; None where it died."""
        try:
            found = _receive(self._process.stdout)
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return None if found is None else Checked(*found)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self._process.wait()


def _result(worker: _Worker, stretch: Stretch) -> Checked:
    found = worker.receive()
    return check(stretch) if found is None else found


def _until_broken(stretches: Iterator[Stretch]) -> Iterator[Stretch | BundleMalformed]:
    try:
        yield from stretches
    except BundleMalformed as error:
        yield error


def _send(pipe: IO[bytes] | None, value: tuple[Any, ...]) -> None:
    assert pipe is not None  # noqa: S101 - it was asked for
    content = marshal.dumps(value)
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None  # noqa: S101 - it was asked for
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    # Of our own process, over a pipe of our own.
    return marshal.loads(pipe.read(_LENGTH.unpack(head)[0]))  # noqa: S302
