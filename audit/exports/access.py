"""The only door to an organization's exports: for who reads the whole log, else 403; 404 for strangers."""

from datetime import datetime

from django.core.exceptions import PermissionDenied
from django.http import Http404

from audit.models import Checkpoint, Export
from audit.ports import Reader


def exports(member: Reader, now: datetime) -> list[Export]:
    """Return the organization's exports, the newest first; raises `PermissionDenied`."""
    require(member)
    found = Export.objects.filter(organization_id=member.organization_id, expires_at__gt=now)
    return list(found.order_by("-created_at", "-id"))


def export(member: Reader, export_id: str, now: datetime) -> Export:
    """Return one export whose day is not over; raises `Http404`, `PermissionDenied`."""
    found = Export.objects.filter(organization_id=member.organization_id, pk=export_id).first()
    if found is None or found.has_expired(now):
        raise Http404
    require(member)
    return found


def checkpoints(member: Reader) -> list[Checkpoint]:
    """Return the newest checkpoint of each epoch, the newest epoch first; raises `PermissionDenied`."""
    require(member)
    rows, found = Checkpoint.objects.of(member.organization_id), []
    newest = rows.newest()
    while newest is not None:
        found.append(newest)
        newest = rows.filter(epoch__lt=newest.epoch).newest()
    return found


def require(member: Reader) -> None:
    """Raise `PermissionDenied` unless the person reads the whole log."""
    if not member.reads_whole_log:
        raise PermissionDenied
