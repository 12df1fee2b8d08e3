"""What is over and goes: deliveries that ended 30 days ago with their attempts, and secrets that sign no more."""

from datetime import timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from audit import tenancy
from audit.models import EndpointSecret

KEPT: Final = timedelta(days=30)
BATCH: Final = 5000
OVER: Final = """
    DELETE FROM audit_delivery WHERE id IN (
        SELECT id FROM audit_delivery WHERE finished_at < %s ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def retain() -> None:
    """Delete in batches, each in a transaction of its own, until nothing is over any more."""
    until = timezone.now() - KEPT
    deleted = BATCH
    while deleted == BATCH:
        with tenancy.everywhere(tenancy.Reason.WORKER), connection.cursor() as cursor:
            cursor.execute(OVER, [until, BATCH])
            deleted = cursor.rowcount
    with tenancy.everywhere(tenancy.Reason.WORKER):
        EndpointSecret.objects.filter(signs_until__lt=timezone.now()).delete()
