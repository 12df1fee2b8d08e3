"""Erasures that take more than one step: the job that goes on, and by the clock what a lost one left."""

import logging

from procrastinate.contrib.django import app

from audit import tenancy
from audit.models import Erasure

EVERY_MINUTE = "* * * * *"
logger = logging.getLogger(__name__)


@app.task(name="audit.erase")
def erase(organization_id: str, erasure_id: str) -> None:
    """Go on with one erasure until its end, each step in a transaction of its own."""
    # A service puts this job, and so imports queue alone.
    from audit.services import erasing  # noqa: PLC0415

    while erasing.advance_erasure(organization_id, erasure_id):
        pass


@app.periodic(cron=EVERY_MINUTE)
@app.task(name="audit.sweep_erasures", queueing_lock="audit.sweep_erasures")
def sweep_erasures(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """End what a lost job left; one organization's trouble does not hold the others up."""
    with tenancy.everywhere(tenancy.Reason.WORKER):
        running = Erasure.objects.filter(finished_at__isnull=True).order_by("created_at", "id")
        left = list(running.values_list("organization_id", "id"))
    for organization_id, erasure_id in left:
        try:
            erase(organization_id, erasure_id)
        except Exception:
            logger.exception("the erasure %s could not go on", erasure_id)
