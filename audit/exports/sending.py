"""Handing out an export part by part, so that a gigabyte takes no more memory than a part."""

from collections.abc import Iterator
from typing import Final

from django.utils import timezone

from audit import tenancy
from audit.errors import ExportStateForbids
from audit.exports.places import Held, NoPlace, Places
from audit.models import Export, ExportPart, ExportState

PLACES: Final = Places()


def send(export: Export) -> Held:
    """Return the bytes of one export. Raises `ExportStateForbids` at once where too many are being downloaded.

    Before each part it looks whether the export is still there: one that was removed, expired or taken back because
    personal data was erased is broken off.
    """
    try:
        return PLACES.hold(export.organization_id, lambda: _pieces(export))
    except NoPlace:
        raise ExportStateForbids("Too many downloads are running. Try again in a moment.") from None


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
