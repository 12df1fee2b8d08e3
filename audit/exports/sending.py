"""Handing out an export part by part, so that a gigabyte takes no more memory than a part."""

from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Final

from django.utils import timezone

from audit import tenancy
from audit.errors import ExportStateForbids
from audit.models import Export, ExportPart, ExportState

# Each holds one of the process's 16 threads for as long as its reader takes; one organization leaves some to others.
MOST: Final = 6
MOST_OF_ONE: Final = 2
_lock: Final = Lock()
_running: Final[Counter[str]] = Counter()


class Sending(Iterator[bytes]):
    """The bytes of one export. Raises `ExportStateForbids` at once where too many are being downloaded.

    Before each part it looks whether the export is still there: one that was removed, expired or taken back because
    personal data was erased is broken off. Close it, or read it to its end.
    """

    def __init__(self, export: Export) -> None:
        self._organization_id = export.organization_id
        with _lock:
            if _running.total() >= MOST or _running[self._organization_id] >= MOST_OF_ONE:
                raise ExportStateForbids("Too many downloads are running. Try again in a moment.")
            _running[self._organization_id] += 1
        self._is_open = True
        self._pieces = _pieces(export)

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the place back; may be called twice."""
        with _lock:
            if self._is_open:
                self._is_open = False
                _running[self._organization_id] -= 1
                if not _running[self._organization_id]:
                    del _running[self._organization_id]


def _pieces(export: Export) -> Iterator[bytes]:
    sent = number = 0
    while sent < export.size:
        piece = _part(export, number)
        yield piece
        sent, number = sent + len(piece), number + 1


def _part(export: Export, number: int) -> bytes:
    with tenancy.within(export.organization_id):
        found = ExportPart.objects.filter(
            export=export.pk,
            number=number,
            export__state=ExportState.READY,
            export__sha256=export.sha256,
            export__expires_at__gt=timezone.now(),
        ).first()
    if found is None:
        raise ExportStateForbids("This export is gone.")
    return bytes(found.piece)
