"""The zip of an offline bundle (spec LEDGER, Bytes 14), read as if whoever made it meant harm.

Nothing is unpacked to a disk and nothing is held as a whole: the long members are streams of lines.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from keystead.ledger.entry import MAX_LEAF_BYTES
from keystead.ledger.errors import BundleMalformed

VKEYS: Final = "vkeys"
CHECKPOINT: Final = "checkpoint"
OLD_CHECKPOINT: Final = "old-checkpoint"
ENTRIES: Final = "entries.jsonl"
SEALED: Final = "sealed.jsonl"
MAX_NOTE_BYTES: Final = 65_536
# A value of 2,048 bytes, each of which an escape may make six of, and what stands around it.
MAX_OPENING_BYTES: Final = 16_384
BLOCK: Final = 262_144
_MEMBERS: Final = frozenset({VKEYS, CHECKPOINT, ENTRIES, SEALED})
# The directory of five members; anything longer is not read.
_MAX_DIRECTORY: Final = 262_144
_MAX_MEMBERS: Final = 5
_ENCRYPTED: Final = 0x1
_END: Final = b"PK\x05\x06"
_END_BYTES: Final = 22
_FIRST: Final = b"PK\x03\x04"
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


class Bundle:
    """An open bundle. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its directory.

        Raises:
            BundleMalformed: it is no bundle.
            OSError: it can't be read.
        """
        self._file = path.open("rb")
        try:
            self._zip = self._open()
            self._infos = self._checked()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go."""
        with _reading("the zip"):
            self._zip.close()
        self._file.close()

    def text(self, name: str) -> bytes | None:
        """Return a short member, None where there is none of that name.

        Raises:
            BundleMalformed: it is long, or can't be read.
        """
        if name not in self._infos:
            return None
        with _reading(name), self._member(name) as member:
            content = _read(member, MAX_NOTE_BYTES + 1)
        if len(content) > MAX_NOTE_BYTES:
            raise BundleMalformed(f"{name}: has more than {MAX_NOTE_BYTES} bytes")
        return content

    def lines(self, name: str, max_bytes: int) -> Lines:
        """Return the lines of a member."""
        with _reading(name):
            return Lines(self._member(name), name, max_bytes)

    def entries(self) -> Lines:
        """Return the lines of the entries."""
        return self.lines(ENTRIES, MAX_LEAF_BYTES)

    def openings(self) -> Lines:
        """Return the lines of the openings."""
        return self.lines(SEALED, MAX_OPENING_BYTES)

    def length(self) -> int:
        """Return how many bytes of entries the directory promises: a hint, no more."""
        return self._infos[ENTRIES].file_size

    def _open(self) -> zipfile.ZipFile:
        with _reading("the zip"):
            self._file.seek(0)
            first = self._file.read(len(_FIRST))
            self._file.seek(-_END_BYTES, io.SEEK_END)
            end = self._file.read(_END_BYTES)
            # Nothing before it and no comment behind it: so every reader of zips sees the same one.
            if first != _FIRST or end[: len(_END)] != _END or end[-2:] != b"\x00\x00":
                raise zipfile.BadZipFile
            bounded = _Bounded(self._file)
            opened = zipfile.ZipFile(bounded)
            bounded.is_bounded = False
            return opened
        raise AssertionError

    def _checked(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > _MAX_MEMBERS:
            raise BundleMalformed("the zip holds more than a bundle's members")
        for info in infos:
            _check_member(info)
        names = [info.filename for info in infos]
        if len(set(names)) != len(names):
            raise BundleMalformed("the zip holds a member twice")
        if missing := sorted(_MEMBERS - set(names)):
            raise BundleMalformed(f"the zip holds no {missing[0]}")
        return {info.filename: info for info in infos}

    def _member(self, name: str) -> IO[bytes]:
        return self._zip.open(self._infos[name])


class Lines:
    """The lines of a member, block by block, without the newlines."""

    def __init__(self, member: IO[bytes], name: str, max_bytes: int) -> None:
        self._member = member
        self._name = name
        self._max = max_bytes
        self._rest = b""
        self._is_ended = False

    def block(self) -> list[bytes]:
        """Return some more lines, none at the end.

        The first one that is longer than allowed is cut just behind that, and nothing after it is read.

        Raises:
            BundleMalformed: the member can't be read, or its last line is not ended.
        """
        while not self._is_ended:
            with _reading(self._name):
                read = self._member.read(BLOCK)
            lines = (self._rest + read).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > self._max:
                lines.append(self._rest[: self._max + 1])
                self._is_ended = True
            elif not read:
                self._is_ended = True
                if self._rest:
                    raise BundleMalformed(f"{self._name}: its last line is not ended")
            if lines:
                return lines
        return []


class _Bounded:
    """A file of which little may be read, as long as the directory is: one with a million members is not ours."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MAX_DIRECTORY
        self.is_bounded = True

    def read(self, size: int = -1) -> bytes:
        if not self.is_bounded:
            return self._file.read(size)
        content = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise zipfile.BadZipFile
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _check_member(info: zipfile.ZipInfo) -> None:
    # The directory's own spelling: the reader cuts a name at U+0000.
    if info.orig_filename not in _MEMBERS | {OLD_CHECKPOINT}:
        raise BundleMalformed("the zip holds what is no member of a bundle")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise BundleMalformed(f"{info.filename}: is no ordinary file")
    if info.flag_bits & _ENCRYPTED:
        raise BundleMalformed(f"{info.filename}: is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleMalformed(f"{info.filename}: is not deflated")


def _read(member: IO[bytes], size: int) -> bytes:
    """Read to the end or as far as `size`: one call may return less."""
    parts: list[bytes] = []
    while size > 0 and (part := member.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except BundleMalformed:
        raise
    except _BROKEN:
        raise BundleMalformed(f"{what}: can't be read as a bundle's") from None
    except OSError as error:
        # A place before the file's beginning, or a fault of the disk.
        raise BundleMalformed(f"{what}: can't be read: {error.strerror}") from None
