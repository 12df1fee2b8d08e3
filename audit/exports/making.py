"""Making one export: whoever holds its lock writes it from the beginning, part by part, and makes it ready.

The lock goes with the process, so that what a killed worker began is begun again by the next job. A run that lost its
claim, because personal data was erased or somebody removed the export, finds out at its next part and ends.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Final

from django.db.models import F, QuerySet
from django.utils import timezone

from audit import services, tenancy
from audit.errors import BundleUnavailable, ExportCapReached, ExportError, ExportStateForbids
from audit.exports import apart, bundle
from audit.exports.tables import Table
from audit.models import Export, ExportPart, ExportState, Format
from audit.services import ExportMade
from audit.services.exports import bytes_left, enqueue

PART_BYTES: Final = 1024 * 1024
MOST_ATTEMPTS: Final = 3
# For how long the notary is waited for; it signs within ten seconds where it runs.
PATIENCE: Final = timedelta(minutes=10)
SAID_EVERY_SECONDS: Final = 1.0
BROKEN: Final = "It could not be made: something is wrong on our side. Ask again, or tell us its id."
TOO_BIG: Final = "It is bigger than what an organization may keep. Narrow it, or delete other exports."
logger = logging.getLogger(__name__)


def make(organization_id: str, export_id: str) -> None:
    """Make an export ready, or note why it can't be; do nothing where another process is at it, or it is done."""
    with apart.lock(export_id) as is_ours:
        export = _claimed(organization_id, export_id) if is_ours else None
        if export is None:
            return
        try:
            _run(export)
        except ExportStateForbids:
            _again(export)
        except BundleUnavailable as error:
            _wait(export, error)
        except ExportError as error:
            _fail(export, error.detail)
        except Exception:
            logger.exception("export %s could not be made", export.id)
            _put_back(export, reason="", delay_seconds=10 * export.attempts)


def enqueue_unfinished() -> None:
    """Put what waits or runs into the queue, at most 1,000; a job ends at once where another is at it."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        rows = Export.objects.filter(state__in=[ExportState.QUEUED, ExportState.RUNNING])
        for export in rows.order_by("created_at")[:1000]:
            enqueue(export)


def expire() -> int:
    """Delete the exports whose day is over, with their bytes; return how many."""
    deleted = 0
    while True:
        with tenancy.everywhere(tenancy.Reason.WORKER):
            over = Export.objects.filter(expires_at__lte=timezone.now()).values("pk")[:100]
            batch, _ = Export.objects.filter(pk__in=list(over.values_list("pk", flat=True))).delete()
        deleted += batch
        if not batch:
            return deleted


def _claimed(organization_id: str, export_id: str) -> Export | None:
    """Take the claim and throw away what an earlier run wrote; None where there is nothing to make."""
    claim = secrets.token_hex(16)
    with tenancy.within(organization_id):
        waiting = Export.objects.filter(pk=export_id, state__in=[ExportState.QUEUED, ExportState.RUNNING])
        if waiting.filter(attempts__gte=MOST_ATTEMPTS).update(
            state=ExportState.FAILED, claim="", reason=BROKEN
        ):
            ExportPart.objects.filter(export=export_id).delete()
            return None
        if not waiting.update(
            state=ExportState.RUNNING,
            claim=claim,
            attempts=F("attempts") + 1,
            done=0,
            entries=0,
            size=0,
        ):
            return None
        ExportPart.objects.filter(export=export_id).delete()
        return Export.objects.get(pk=export_id)


def _run(export: Export) -> None:
    if export.format == Format.BUNDLE:
        with tenancy.within(export.organization_id):
            made = bundle.open_bundle(export.organization_id, epoch=export.epoch, old_note=export.old_note)
        with closing(made):
            writer = _Writer(export, total=made.contents.size)
            for piece in made:
                writer.write(piece, done=made.entries, entries=made.entries)
            facts = {"epoch": made.contents.epoch, "checkpoint": made.contents.size}
            writer.end(made.entries, facts)
        return
    table = Table(export.organization_id, Format(export.format), export.filters)
    writer = _Writer(export)
    for piece in table.pieces():
        writer.total = table.total
        writer.write(piece, done=table.done, entries=table.entries)
    writer.end(table.entries, {})


class _Writer:
    """Puts bytes away in parts, and says how far it is; each in a transaction that ends with the claim."""

    def __init__(self, export: Export, *, total: int = 0) -> None:
        self.export = export
        self.total = total
        self.done = self.entries = self.size = self.parts = 0
        self._digest = hashlib.sha256()
        self._rest = bytearray()
        self._said_at = time.monotonic()

    def write(self, piece: bytes, *, done: int, entries: int) -> None:
        """Take more bytes. Raises `ExportStateForbids` where the claim is gone, `ExportCapReached`."""
        self.done, self.entries = done, entries
        self._rest += piece
        for part in self._full():
            self._put(part)
        if time.monotonic() - self._said_at > SAID_EVERY_SECONDS:
            self._put(b"")

    def end(self, entries: int, facts: dict[str, int]) -> None:
        """Put the rest away, and make the export ready."""
        self.entries = entries
        if self._rest:
            self._put(bytes(self._rest))
        export = self.export
        made = ExportMade(
            claim=export.claim, entries=entries, size=self.size, sha256=self._digest.hexdigest(), facts=facts
        )
        export.total = self.total
        with tenancy.within(export.organization_id):
            services.complete_export(export, made)

    def _full(self) -> Iterator[bytes]:
        while len(self._rest) >= PART_BYTES:
            part = bytes(self._rest[:PART_BYTES])
            del self._rest[:PART_BYTES]
            yield part

    def _put(self, part: bytes) -> None:
        self.size += len(part)
        self._said_at = time.monotonic()
        export = self.export
        with tenancy.within(export.organization_id):
            # Locks the row until the part is there: what takes the claim away comes before both or after.
            if not Export.objects.filter(pk=export.pk, state=ExportState.RUNNING, claim=export.claim).update(
                done=self.done, total=self.total, entries=self.entries, size=self.size
            ):
                raise ExportStateForbids("This export is not this run's to write.")
            if not part:
                return
            if bytes_left(export.organization_id) < 0:
                raise ExportCapReached(TOO_BIG)
            self._digest.update(part)
            ExportPart.objects.create(
                export=export, organization_id=export.organization_id, number=self.parts, piece=part
            )
        self.parts += 1


def _wait(export: Export, error: BundleUnavailable) -> None:
    """Let the notary sign first, for as long as it is worth."""
    if error.retry_seconds is None or timezone.now() - export.created_at > PATIENCE:
        _fail(export, error.detail)
    else:
        # Waiting is no failure.
        _put_back(
            export, reason=error.detail, delay_seconds=error.retry_seconds, attempts=export.attempts - 1
        )


def _put_back(export: Export, *, reason: str, delay_seconds: float, attempts: int | None = None) -> None:
    with tenancy.within(export.organization_id):
        if _own(export).update(
            state=ExportState.QUEUED,
            claim="",
            reason=reason,
            attempts=export.attempts if attempts is None else attempts,
        ):
            enqueue(export, delay_seconds=delay_seconds)


def _again(export: Export) -> None:
    """Begin once more where the claim was taken because personal data was erased; not where the export is gone."""
    with tenancy.within(export.organization_id):
        if Export.objects.filter(pk=export.pk, state=ExportState.QUEUED).update(attempts=F("attempts") - 1):
            enqueue(export)


def _fail(export: Export, reason: str) -> None:
    with tenancy.within(export.organization_id):
        if _own(export).update(state=ExportState.FAILED, claim="", reason=reason, size=0, entries=0):
            ExportPart.objects.filter(export=export).delete()


def _own(export: Export) -> QuerySet[Export]:
    return Export.objects.filter(pk=export.pk, state=ExportState.RUNNING, claim=export.claim)
