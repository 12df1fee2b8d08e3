"""Places for answers that are written while they are read: few at once, because each holds a thread of the process."""

from collections import Counter
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Final

# Of a process, which has 16 threads for everything but verification; and of one organization among them.
MOST: Final = 6
MOST_OF_ONE: Final = 2


class NoPlace(Exception):  # noqa: N818 - nothing is wrong, but for the moment
    """As many are running as may."""


class Places:
    """The places of one kind of answer; `running` counts those that are taken, by organization."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self._lock = Lock()

    def hold(self, organization_id: str, begin: Callable[[], Iterator[bytes]]) -> "Held":
        """Return what `begin` begins, in a place of its own. Raises `NoPlace`, and what `begin` does.

        Whoever takes it closes it; Django does so when the answer ends.
        """
        with self._lock:
            if self.running.total() >= MOST or self.running[organization_id] >= MOST_OF_ONE:
                raise NoPlace
            self.running[organization_id] += 1
        try:
            return Held(begin(), lambda: self._give_back(organization_id))
        except BaseException:
            self._give_back(organization_id)
            raise

    def _give_back(self, organization_id: str) -> None:
        with self._lock:
            self.running[organization_id] -= 1
            if not self.running[organization_id]:
                del self.running[organization_id]


class Held(Iterator[bytes]):
    """Pieces of an answer, whose place is given back when they end, fail, or the caller goes away."""

    def __init__(self, pieces: Iterator[bytes], give_back: Callable[[], None]) -> None:
        self._pieces = pieces
        self._give_back: Callable[[], None] | None = give_back
        self._lock = Lock()

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back, once; may be called twice."""
        with self._lock:
            give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            give_back()
