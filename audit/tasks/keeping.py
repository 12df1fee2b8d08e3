"""What each ledger says of itself, by the clock: its signing keys within the hour, its checkpoint once a day."""

from collections.abc import Callable
from datetime import datetime

import structlog
from django.utils import timezone
from procrastinate.contrib.django import app

from audit.acts import Act
from audit.signatures import keeping

EVERY_TEN_MINUTES = "*/10 * * * *"
# Once a day for each ledger; by the hour, so that a day is not lost with the hour in which no worker ran.
HOURLY = "3 * * * *"
log = structlog.get_logger("keystead.worker")


@app.periodic(cron=EVERY_TEN_MINUTES)
@app.task(name="audit.keep_keys", queueing_lock="audit.keep_keys")
def keep_keys(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Announce a new signing key in every ledger, and retire old ones."""
    visit(keeping.keep_keys)


@app.periodic(cron=HOURLY)
@app.task(name="audit.record_checkpoints", queueing_lock="audit.record_checkpoints")
def record_checkpoints(timestamp: int) -> None:  # noqa: ARG001
    """Put the day's checkpoint into every ledger that was signed further."""
    visit(keeping.record_checkpoint)


def visit(work: Callable[[str, datetime], list[Act]]) -> None:
    """Do the work at every ledger, each in its own transaction; one ledger's trouble does not hold the others up."""
    for organization_id in keeping.organizations():
        try:
            work(organization_id, timezone.now())
        except Exception:
            log.exception("a job failed at a ledger", organization=organization_id)
