"""A file that is replaced as a whole or not at all: whoever reads it, whatever crashes, it is the old or the new."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from keystead.errors import ConfigurationError

PRIVATE: Final = 0o600
MAX_SIZE: Final = 1024 * 1024
_GROUP: Final = 0o070
_OTHERS: Final = 0o007
_NEW: Final = ".keystead-new"


class Place:
    """A file in its folder, beside which the next content is prepared, in a file that only its owner can read.

    Symbolic links are followed once, to the file itself, as deployments link to a shared one. The content that was
    prepared has a fixed name, so that one who comes after a crash finds it.
    """

    def __init__(self, path: Path, *, mode: int = PRIVATE) -> None:
        """Find the file, which must be there: `mode` is what it will have, such as 0o640.

        Raises:
            ConfigurationError: it is no ordinary file, or its owner would lose it by a replacement.
            OSError: it is not there, or may not be read.
        """
        self.path = Path(os.path.realpath(path, strict=True))
        self._mode = mode
        self._folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        found = os.stat(self.path.name, dir_fd=self._folder, follow_symlinks=False)
        self.was_wider = bool(stat.S_IMODE(found.st_mode) & (_GROUP | _OTHERS) & ~mode)
        self._check(found)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._folder)

    def beside(self, ending: str) -> str:
        """Return the name of a file in the same folder that belongs to this one."""
        return f"{self.path.name}{ending}"

    def open(self, name: str, flags: int) -> int:
        """Open a file of the folder, private to its owner, and return its descriptor; never through a link."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE, dir_fd=self._folder)

    def read(self) -> bytes:
        """Return the content; it is secret."""
        return _whole(self.open(self.path.name, os.O_RDONLY))

    def rehearse(self) -> None:
        """Replace the file by itself: what would hinder a replacement hinders this one, while nothing is at stake.

        Raises:
            ConfigurationError: it can't be replaced: a read-only folder, a mounted file, another's.
        """
        try:
            self.replace(self.read())
        except OSError as error:
            self.discard()
            raise ConfigurationError(f"{self.path} can't be replaced: {error.strerror}.") from None

    def prepare(self, content: bytes) -> None:
        """Write the content beside the file, to the disk; what a crash had left there is gone."""
        self.discard()
        descriptor = self.open(self.beside(_NEW), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self._give_away(descriptor)
            _write(descriptor, content)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(descriptor)

    def replace(self, content: bytes) -> None:
        """Replace the file; when this returns it is on the disk. Every other name of its old content keeps that."""
        self.prepare(content)
        name = self.beside(_NEW)
        os.replace(name, self.path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.sync()

    def prepared(self) -> bytes | None:
        """Return what a crash left beside the file, None where it left nothing that can be ours; it is secret."""
        try:
            descriptor = self.open(self.beside(_NEW), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        found = os.fstat(descriptor)
        mine = {os.geteuid(), os.stat(self.path.name, dir_fd=self._folder).st_uid}
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in mine or found.st_nlink != 1:
            os.close(descriptor)
            return None
        return _whole(descriptor)

    def discard(self) -> None:
        """Remove what was prepared."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.beside(_NEW), dir_fd=self._folder)

    def sync(self) -> None:
        """Have the folder's names on the disk."""
        os.fsync(self._folder)

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{self.path} is not a file.")
        if found.st_nlink != 1:
            raise ConfigurationError(f"{self.path} has several names; the others would keep the old content.")
        folder = os.fstat(self._folder)
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            raise ConfigurationError(f"Anybody may replace files in {self.path.parent}.")

    def _give_away(self, descriptor: int) -> None:
        """Give what was prepared the file's owner and group; where that fails, the owner would lose the file."""
        now = os.stat(self.path.name, dir_fd=self._folder)
        made = os.fstat(descriptor)
        if made.st_gid != now.st_gid:
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, -1, now.st_gid)
            if self._mode & _GROUP and os.fstat(descriptor).st_gid != now.st_gid:
                raise ConfigurationError(f"{self.path} would not keep its group.")
        if made.st_uid != now.st_uid:
            try:
                os.fchown(descriptor, now.st_uid, -1)
            except PermissionError:
                raise ConfigurationError(f"{self.path} belongs to another user, who would lose it.") from None
        os.fchmod(descriptor, self._mode)


def mode_of(text: str) -> int:
    """Return a file's mode from `600` or `640`.

    Raises:
        ValueError: it is none that a secret may have: others never read it, nobody but its owner writes.
    """
    mode = int(text, 8)
    if mode & ~0o640 or mode & PRIVATE != PRIVATE:
        raise ValueError("A file with a secret is 600 or 640.")
    return mode


def create_private(path: Path, content: bytes) -> None:
    """Write a new file with a secret, readable by its owner alone.

    Raises:
        FileExistsError: there is one: it is not overwritten.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    try:
        _write(descriptor, content)
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)


def _whole(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise ConfigurationError("A file of variables is not larger than 1 MB.")
    return content
