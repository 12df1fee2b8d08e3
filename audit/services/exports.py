"""Exports of the security log: ask for one, make it ready, remove it (spec PAGES, Security log).

Each locks the ledger's head first and not last: an erasure, which holds it, deletes what these write.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from re import compile as pattern
from typing import Any, Final

from django.db.models import Sum
from django.utils import timezone

from audit import ids, ledger, queue, redaction
from audit.actors import Actor
from audit.acts import Act
from audit.errors import ExportCapReached, ExportInvalid, ExportStateForbids
from audit.exports import older
from audit.models import Export, ExportState, Format

KEPT: Final = timedelta(hours=24)
MOST_KEPT: Final = 10
MOST_UNFINISHED: Final = 3
# Of all exports of an organization together: about fifteen million entries.
MOST_BYTES: Final = 4 * 1024**3
MAKE: Final = "audit.make_export"
LANE: Final = "exports"
# What can't be personal data: ids, acts, days. Anything else that was typed is sealed.
PLAIN: Final = pattern(r"[a-z]{3}_[A-Za-z0-9_-]{1,60}|[a-z_]+(\.[a-z_*]+)+|[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDraft:
    """What is asked for. A bundle takes `epoch`, None for the newest, and `old_note`; the others take `filters`."""

    format: Format
    filters: Mapping[str, str] = field(default_factory=dict)
    epoch: int | None = None
    old_note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportMade:
    """What a run has written: the number of entries, of bytes, and the SHA-256 of all of them in hex.

    `facts`: what else the ledger is to say, such as the size of the checkpoint.
    """

    claim: str
    entries: int
    size: int
    sha256: str
    facts: Mapping[str, int] = field(default_factory=dict)


def request_export(organization_id: str, draft: ExportDraft, *, actor: Actor) -> Export:
    """Ask for an export; a worker makes it. It can be read by others than who asked: they all read the whole log.

    Writes the export, its job and `export.requested`. Raises `ExportInvalid`, `ExportCapReached`.
    """
    if any(redaction.holds_secret(text) for text in (*draft.filters.values(), draft.old_note)):
        raise ExportInvalid("This looks like a secret, which does not belong here.", field="old_note")
    now = timezone.now()
    is_bundle = draft.format == Format.BUNDLE
    old_note = (
        is_bundle and draft.old_note.strip() and older.checked(organization_id, draft.epoch, draft.old_note)
    )
    with ledger.recording(organization_id, actor) as entry:
        ledger.lock(organization_id)
        _refuse_too_many(organization_id)
        made = Export.objects.create(
            id=ids.new("exp"),
            organization_id=organization_id,
            format=draft.format,
            filters={} if is_bundle else dict(draft.filters),
            epoch=draft.epoch if is_bundle else None,
            old_note=old_note or "",
            asked_by=actor.id,
            asked_name=actor.name[:200],
            created_at=now,
            expires_at=now + KEPT,
        )
        enqueue(made)
        told, typed = _told(made)
        entry(Act.EXPORT_REQUESTED, target=made.id, data=told, sealed={"filters": typed})
    return made


def complete_export(export: Export, made: ExportMade) -> Export:
    """Let an export be downloaded, for 24 hours from now: the run that holds its claim has written every part.

    Writes `export.made` in the name of who asked. Raises `ExportStateForbids` where another run has the claim, or it
    was removed or taken back meanwhile.
    """
    now = timezone.now()
    actor = Actor(id=export.asked_by, name=export.asked_name)
    with ledger.recording(export.organization_id, actor) as entry:
        ledger.lock(export.organization_id)
        running = Export.objects.filter(pk=export.pk, state=ExportState.RUNNING, claim=made.claim)
        if not made.claim or not running.update(
            state=ExportState.READY,
            claim="",
            reason="",
            done=made.entries if export.format == Format.BUNDLE else export.total,
            entries=made.entries,
            size=made.size,
            sha256=made.sha256,
            ready_at=now,
            expires_at=now + KEPT,
        ):
            raise ExportStateForbids("This export is not this run's to complete.")
        found = Export.objects.get(pk=export.pk)
        told, typed = _told(found)
        figures = {"entries": made.entries, "size": made.size, "sha256": made.sha256, **made.facts}
        entry(Act.EXPORT_MADE, target=found.id, data=told | figures, sealed={"filters": typed})
    return found


def remove_export(export: Export, *, actor: Actor) -> None:
    """Delete an export with its bytes, whether it is ready, waits or is being made.

    Writes `export.removed`. Raises `ExportStateForbids` where it is gone already.
    """
    with ledger.recording(export.organization_id, actor) as entry:
        ledger.lock(export.organization_id)
        deleted, _ = Export.objects.filter(pk=export.pk).delete()
        if not deleted:
            raise ExportStateForbids("This export is gone already.")
        entry(Act.EXPORT_REMOVED, target=export.id, data={"format": export.format})


def enqueue(export: Export, *, delay_seconds: float = 0) -> None:
    """Let a worker make it once this transaction commits; the job ends at once where another one does already."""
    queue.put(
        MAKE,
        lock=f"{MAKE}:{export.id}",
        arguments={"organization_id": export.organization_id, "export_id": export.id},
        queue=LANE,
        delay_seconds=delay_seconds,
    )


def bytes_left(organization_id: str) -> int:
    """Return how many bytes more the organization's exports may have together."""
    kept = Export.objects.filter(organization_id=organization_id).aggregate(kept=Sum("size"))["kept"]
    return MOST_BYTES - (kept or 0)


def _refuse_too_many(organization_id: str) -> None:
    own = Export.objects.filter(organization_id=organization_id)
    if own.filter(state__in=[ExportState.QUEUED, ExportState.RUNNING]).count() >= MOST_UNFINISHED:
        raise ExportCapReached(f"{MOST_UNFINISHED} exports are being made already: wait for one of them.")
    if own.count() >= MOST_KEPT:
        raise ExportCapReached(f"There are {MOST_KEPT} exports already: delete one of them.")
    if bytes_left(organization_id) <= 0:
        raise ExportCapReached("The exports that are kept are as big as they may be: delete one of them.")


def _told(export: Export) -> tuple[dict[str, Any], str]:
    """Return what an entry says of an export, and of its filters what may be personal."""
    plain = {name: text for name, text in export.filters.items() if PLAIN.fullmatch(text)}
    typed = "; ".join(f"{name}: {text}" for name, text in export.filters.items() if name not in plain)
    told: dict[str, Any] = {"what": "log", "format": export.format, "filters": plain}
    return told | ({"epoch": export.epoch} if export.epoch else {}), typed
