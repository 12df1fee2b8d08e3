"""The Chromium of the browser tests: one that is here, else one we install, else a line of what to do."""

# ruff: noqa: T201 - it speaks to the person at the terminal

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLAYWRIGHT_FOLDERS = (Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright")
PLAYWRIGHT_PROGRAMS = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/Chromium.app/Contents/MacOS/Chromium",
    "chromium-*/chrome-mac*/Google Chrome for Testing.app/Contents/MacOS/Google Chrome for Testing",
)
MISSING = "no Chromium, and installing one failed: install the package chromium or set CHROMIUM=/its/path."


class NoBrowserError(Exception):
    """There is no Chromium; the message is one line that says what to do."""


def find() -> str:
    """Return the path of a Chromium that starts. Raises `NoBrowserError`."""
    for candidate in _candidates():
        if _starts(candidate):
            return candidate
    raise NoBrowserError(MISSING)


def ensure() -> str:
    """Return the path of a Chromium, installing one where there is none. Raises `NoBrowserError`."""
    try:
        return find()
    except NoBrowserError:
        print("test: installing Chromium for the browser tests", file=sys.stderr)
    for step in _installations():
        if all(
            subprocess.run(command, check=False, env=environment).returncode == 0
            for command, environment in step
        ):
            break
    return find()


def launch_options() -> dict[str, object]:
    """Return Playwright's `chromium.launch` options for the Chromium found."""
    # Chromium's own sandbox refuses to run as root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {"executable_path": find(), "args": [*arguments, "--disable-dev-shm-usage"]}


def _candidates() -> Iterator[str]:
    if os.environ.get(VARIABLE):
        yield os.environ[VARIABLE]
        return
    yield from filter(None, map(shutil.which, NAMES))
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    for folder in (Path(named),) if named else PLAYWRIGHT_FOLDERS:
        for pattern in PLAYWRIGHT_PROGRAMS:
            yield from map(str, sorted(folder.glob(pattern), reverse=True))


def _starts(program: str) -> bool:
    """Say whether the program runs at all: Ubuntu's chromium-browser may be a stub that asks for a snap."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _installations() -> Iterator[list[tuple[list[str], dict[str, str]]]]:
    here = dict(os.environ)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = here | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        yield [(["apt-get", "update", "-qq"], quiet), (install, quiet)]
    yield [([sys.executable, "-m", "playwright", "install", "chromium"], here)]
