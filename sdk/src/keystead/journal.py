"""What a rotation had come to, for whoever comes after a crash; and the lock that lets one at a time do it.

Kept in a file beside the one that holds the secret, never with a secret in it: one JSON document a line, each
changing some members. A line that a crash cut off is not there.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from keystead.errors import Busy, ConfigurationError
from keystead.place import Place

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

ENDING: Final = ".keystead-lock"
MAX_SIZE: Final = 1024 * 1024


class Journal:
    """Members that outlive the process. The lock is held until `close`, or the end of the process whatever ends it."""

    def __init__(self, place: Place) -> None:
        """Take the lock and read what was noted.

        Raises:
            Busy: another process has the lock.
            ConfigurationError: this system has no such locks.
            OSError: the file can't be made.
        """
        if fcntl is None:
            raise ConfigurationError("Rotating a secret in a file needs a system with flock.")
        self._descriptor = place.open(place.beside(ENDING), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise Busy(f"Another process is rotating the key in {place.path}.") from None
        self._members = _members(os.pread(self._descriptor, MAX_SIZE, 0))
        place.sync()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)

    def get(self, name: str) -> Any:
        """Return a member, None where it was not noted."""
        return self._members.get(name)

    def note(self, **members: Any) -> None:
        """Note members; on the disk when this returns."""
        self._members.update(members)
        # Begins a line of its own: the one before may have been cut off.
        os.write(self._descriptor, f"\n{json.dumps(members)}\n".encode())
        os.fsync(self._descriptor)

    def forget(self, *names: str) -> None:
        """Forget members, and how they came about."""
        self._members = {name: value for name, value in self._members.items() if name not in names}
        os.ftruncate(self._descriptor, 0)
        self.note(**self._members)


def _members(content: bytes) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for line in content.splitlines():
        try:
            found = json.loads(line or b"{}")
        except ValueError:
            continue
        members |= found if isinstance(found, dict) else {}
    return members
