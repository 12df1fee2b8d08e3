"""Exports of the security log: made in a lane of their own, begun again where a worker died, deleted after a day."""

from procrastinate.contrib.django import app

from audit.exports import making
from audit.services.exports import LANE, MAKE

EVERY_MINUTE = "* * * * *"
EVERY_FIVE_MINUTES = "*/5 * * * *"


@app.task(name=MAKE, queue=LANE)
def make_export(organization_id: str, export_id: str) -> None:
    """Make one export."""
    making.make(organization_id, export_id)


@app.periodic(cron=EVERY_MINUTE)
@app.task(name="audit.sweep_exports", queueing_lock="audit.sweep_exports")
def sweep_exports(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Queue what a lost job left unfinished."""
    making.enqueue_unfinished()


@app.periodic(cron=EVERY_FIVE_MINUTES)
@app.task(name="audit.expire_exports", queueing_lock="audit.expire_exports")
def expire_exports(timestamp: int) -> None:  # noqa: ARG001
    """Delete exports whose day is over."""
    making.expire()
