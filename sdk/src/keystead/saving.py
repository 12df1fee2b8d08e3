"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from types import TracebackType


class Part:
    """A file beside the one that it becomes, readable by nobody else; gone unless it was kept.

    Raises:
        OSError: the folder can't be written to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._own = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}.part")
        self._file = os.fdopen(os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._size = 0

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._own.unlink(missing_ok=True)

    def add(self, piece: bytes) -> None:
        """Write what comes next."""
        self._size += self._file.write(piece)

    def keep(self) -> int:
        """Give the file its name, in place of what had it, and return the number of its bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._own.replace(self._path)
        return self._size
