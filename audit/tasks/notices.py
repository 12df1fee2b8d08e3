"""Mail about entries: made when they were appended, sent when it is due, and both by the clock for what was left."""

import logging

from procrastinate.contrib.django import app

from audit import mailing

EVERY_MINUTE = "* * * * *"
DAILY = "17 4 * * *"
logger = logging.getLogger(__name__)


@app.task(name="audit.compose_mails", queue=mailing.QUEUE)
def compose_mails(organization_id: str) -> None:
    """Make the mails of one organization's newest entries."""
    while mailing.compose(organization_id):
        pass


@app.task(name="audit.send_mails", queue=mailing.QUEUE, queueing_lock="audit.send_mails")
def send_mails() -> None:
    """Send the mails that are due."""
    mailing.send_due()


@app.periodic(cron=EVERY_MINUTE)
@app.task(name="audit.sweep_mails", queue=mailing.QUEUE, queueing_lock="audit.sweep_mails")
def sweep_mails(timestamp: int) -> None:  # noqa: ARG001 - when it was due
    """Make and send what a lost job left; one organization's trouble does not hold the others up."""
    for organization_id in mailing.behind():
        try:
            compose_mails(organization_id)
        except Exception:
            logger.exception("no mails could be made for %s", organization_id)
    mailing.send_due()


@app.periodic(cron=DAILY)
@app.task(name="audit.forget_mails", queue=mailing.QUEUE, queueing_lock="audit.forget_mails")
def forget_mails(timestamp: int) -> None:  # noqa: ARG001
    """Delete mails that went long ago."""
    mailing.forget_old()
