"""Programs that tests run beside the product: one that is here, else Debian's, else a line of what to do."""

# ruff: noqa: T201 - it speaks to the person at the terminal

import os
import shutil
import subprocess
import sys

PACKAGES = {"nginx": "nginx", "wrk": "wrk"}
# Where Debian keeps servers, which an ordinary person's PATH leaves out.
SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class MissingError(Exception):
    """A program is missing; the message is one line that says what to do."""


def find(program: str) -> str:
    """Return the path of a program of `PACKAGES`. Raises `MissingError`."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM])
    found = shutil.which(program, path=places)
    if found is None:
        package = PACKAGES[program]
        raise MissingError(f"no {program}, and installing one failed: install the package {package}.")
    return found


def ensure(*programs: str) -> None:
    """Install the programs that are not here. Raises `MissingError` for one that can't be."""
    missing = [PACKAGES[program] for program in programs if not _is_here(program)]
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
