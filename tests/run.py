"""`./dev test`: every test, browser included, on one throw-away cluster; or pytest with what is given."""

# ruff: noqa: T201 - it speaks to the person at the terminal

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests import browser, cluster, debian

ROOT = Path(__file__).resolve().parent.parent
BROWSER_TESTS = "tests/e2e"
# What else tests start for themselves.
PROGRAMS = ("nginx", "go", "strace")
MOST_WORKERS = 4
MOST_BROWSERS = 2


def main(arguments: Sequence[str]) -> int:
    """Run the tests; return 0 where all passed, else 1, and 130 where interrupted."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        if arguments:
            return pytest(*arguments)
        os.environ[browser.VARIABLE] = browser.ensure()
        debian.ensure(*PROGRAMS)
        cluster.lay_out()
        return all_of_them()
    except (browser.NoBrowserError, debian.MissingError) as error:
        print(f"test: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def all_of_them() -> int:
    """Run what may run at once, then what reads the clock, then the browser's tests; say how each ended."""
    # One more than there are processors: a third of the time a test waits for another process or for a disk.
    workers = min(MOST_WORKERS, 1 + (os.cpu_count() or 1))
    without_browser = (f"--ignore={BROWSER_TESTS}",)
    parts = {
        "those that may run at once": pytest(
            *without_browser, "-m not timed", f"-n{workers}", "--dist=worksteal"
        ),
        "those that read the clock": pytest(*without_browser, "-m timed"),
        "the browser's": pytest(BROWSER_TESTS, f"-n{MOST_BROWSERS}", "--dist=worksteal"),
    }
    for name, code in parts.items():
        print(f"test: {name}: {'passed' if code == 0 else f'FAILED (pytest ended with {code})'}")
    return int(any(parts.values()))


def pytest(*arguments: str) -> int:
    """Run pytest from the project's folder; an interruption waits until it has cleared away."""
    process = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=ROOT)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
