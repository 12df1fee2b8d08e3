"""Exports in tests: asked for by somebody, and made as the worker makes them."""

from audit import services, tenancy
from audit.actors import Actor
from audit.exports import making
from audit.models import Export, ExportPart, Format
from audit.services import ExportDraft
from tests import ledgers


def request(
    organization_id: str, kind: str = "jsonl", *, actor: Actor = ledgers.ALICE, **options: object
) -> Export:
    """Ask for an export."""
    draft = ExportDraft(format=Format(kind), **options)
    with tenancy.within(organization_id):
        return services.request_export(organization_id, draft, actor=actor)


def make(export: Export) -> Export:
    """Do what the worker's job does, and return what came of it."""
    making.make(export.organization_id, export.id)
    return fresh(export)


def fresh(export: Export) -> Export:
    """Return an export as it is now."""
    with tenancy.within(export.organization_id):
        return Export.objects.get(pk=export.pk)


def content(export: Export) -> bytes:
    """Return an export's bytes, whatever its state."""
    with tenancy.within(export.organization_id):
        parts = ExportPart.objects.filter(export=export).order_by("number")
        return b"".join(bytes(part.piece) for part in parts)
