"""The models of audit: a file for each noun."""

from audit.models.checkpoint import Checkpoint, CheckpointQuerySet
from audit.models.entry import Entry, EntryQuerySet, Head, Sealed
from audit.models.erasure import Erasure
from audit.models.export import Export, ExportPart, ExportState, Format
from audit.models.notice import Mail, NoticeCursor
from audit.models.support import SupportEnd, SupportKind, SupportSession
from audit.models.webhook import Attempt, Delivery, DeliveryState, Endpoint, EndpointSecret, Why

__all__ = [
    "Attempt",
    "Checkpoint",
    "CheckpointQuerySet",
    "Delivery",
    "DeliveryState",
    "Endpoint",
    "EndpointSecret",
    "Entry",
    "EntryQuerySet",
    "Erasure",
    "Export",
    "ExportPart",
    "ExportState",
    "Format",
    "Head",
    "Mail",
    "NoticeCursor",
    "Sealed",
    "SupportEnd",
    "SupportKind",
    "SupportSession",
    "Why",
]
