"""Programs that tests run beside the product: one that is here, else Debian's, else a line of what to do."""

# ruff: noqa: T201 - it speaks to the person at the terminal

import os
import shutil
import subprocess
import sys
from pathlib import Path

# By program, the packages that it needs to be of use.
PACKAGES = {
    "nginx": "nginx",
    "wrk": "wrk",
    "go": "golang-go golang-golang-x-mod-dev",
    "strace": "strace",
}
# What of those packages is no program.
LIBRARIES = {"go": Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")}
# Where Debian keeps servers, which an ordinary person's PATH leaves out.
SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class MissingError(Exception):
    """A program is missing; the message is one line that says what to do."""


def find(program: str) -> str:
    """Return the path of a program of `PACKAGES`. Raises `MissingError`."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM])
    found = shutil.which(program, path=places)
    library = LIBRARIES.get(program)
    if found is None or (library is not None and not library.is_dir()):
        package = PACKAGES[program]
        raise MissingError(f"no {program}, and installing one failed: install {package}.")
    return found


def ensure(*programs: str) -> None:
    """Install the programs that are not here. Raises `MissingError` for one that can't be."""
    missing = [name for program in programs if not _is_here(program) for name in PACKAGES[program].split()]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"dev: installing {' '.join(missing)}", file=sys.stderr)
        _install(missing)
    for program in programs:
        find(program)


def _is_here(program: str) -> bool:
    try:
        find(program)
    except MissingError:
        return False
    return True


def _install(packages: list[str]) -> None:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], install):
        if subprocess.run(command, env=quiet, stdout=sys.stderr, check=False).returncode:
            return
