"""Building our Go programs with Debian's Go and its `golang.org/x/mod`: nothing is downloaded."""

import os
import subprocess
from pathlib import Path

from tests import debian

ROOT = Path(__file__).resolve().parent.parent.parent
GOPATH = "/usr/share/gocode"
BUILD_SECONDS = 300


def run(*arguments: str | Path, cache: Path) -> None:
    """Run the go command; raises `MissingError` without one, and `AssertionError` with what it said."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cache),
        "GOCACHE": os.environ.get("GOCACHE") or str(cache / "build"),
        "GOPATH": GOPATH,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    done = subprocess.run(
        [debian.find("go"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def build(source: Path, folder: Path) -> Path:
    """Check a program as `go vet` does, and build it in `folder`."""
    program = folder / source.stem
    run("vet", source, cache=folder)
    run("build", "-o", program, source, cache=folder)
    return program
