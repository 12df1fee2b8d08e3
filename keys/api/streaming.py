"""Answers that are written while they are read: few at once, because each holds a thread and a connection."""

from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from threading import Lock
from typing import Final

from keys.api.problems import Problem

# Of a process, which has 16 threads for everything but verification; and of one organization among them.
MOST: Final = 6
MOST_OF_ONE: Final = 2
RETRY_AFTER_SECONDS: Final = 15

_lock = Lock()
_running: Counter[str] = Counter()


class Held(Iterator[bytes]):
    """Pieces of an answer, whose place is given back when they end, fail, or the caller goes away."""

    def __init__(self, organization_id: str, pieces: Iterator[bytes]) -> None:
        self._organization_id = organization_id
        self._pieces = pieces
        self._is_open = True

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back, once; may be called twice."""
        with _lock:
            is_open, self._is_open = self._is_open, False
        if not is_open:
            return
        try:
            close = getattr(self._pieces, "close", None)
            if close is not None:
                close()
        finally:
            _give_back(self._organization_id)


def held(organization_id: str, begin: Callable[[], Iterator[bytes]]) -> Held:
    """Return what `begin` begins; raises a `Problem` with 503 where as many are running as may.

    Whoever takes it closes it; Django does so when the answer ends.
    """
    with _lock:
        if _running.total() >= MOST or _running[organization_id] >= MOST_OF_ONE:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too_many_downloads",
                "Too many downloads are running: wait for one of them.",
                {"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        _running[organization_id] += 1
    try:
        return Held(organization_id, begin())
    except BaseException:
        _give_back(organization_id)
        raise


def _give_back(organization_id: str) -> None:
    with _lock:
        _running[organization_id] -= 1
        if not _running[organization_id]:
            del _running[organization_id]
